"""Chooses the captions of an item that are embedded (a modality's `policy`: first, longest, all, template)."""

from collections.abc import Callable, Mapping, Sequence

from mgx.shared.errors import BadManifest
from mgx.shared.item import Text
from mgx.shared.manifest import Manifest, Modality

POLICIES: Mapping[str, Callable[[Sequence[str]], Sequence[str]]] = {
    "": lambda captions: captions[:1],
    "first": lambda captions: captions[:1],
    "longest": lambda captions: [max(captions, key=len)],  # the first of equals
    "all": lambda captions: captions,  # views of one item: their vectors are averaged
}


def chosen(settings: Modality, captions: Sequence[str]) -> tuple[Text, ...]:
    """The captions that the policy takes, () if there is none but blanks."""
    said = [caption for caption in captions if caption.strip()]
    return tuple(Text(caption) for caption in POLICIES[settings.policy](said)) if said else ()


def class_texts(manifest: Manifest) -> Mapping[str, Mapping[str, tuple[Text, ...]]]:
    """Modality -> class -> the text that a template makes of the class."""
    prompts = manifest.label.prompt
    return {
        name: {c: (Text(m.template.format(label=c, prompt=prompts.get(c, c))),) for c in manifest.label.classes}
        for name, m in manifest.modalities.items()
        if m.template
    }


def require_kinds(manifest: Manifest, reader: str, **kinds: str) -> None:
    """BadManifest unless every modality is one that the reader finds: those of `kinds`, their tracks, and templates."""
    for name, modality in manifest.modalities.items():
        if modality.track_of or modality.template:
            continue
        if kinds.get(name) != modality.kind:
            known = ", ".join(f"{key} of kind {kind}" for key, kind in kinds.items())
            raise BadManifest(
                f"{manifest.path or manifest.name}: reader {reader!r} finds {known}; modalities.{name} of kind "
                f"{modality.kind!r} is none of them, and has neither 'track_of' nor 'template'."
            )
