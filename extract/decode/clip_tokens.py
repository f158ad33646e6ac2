"""Text as CLIP reads it: cleaned, cut into pieces of words, 77 token numbers."""

import gzip
import html
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

LENGTH, START, END, MERGES = 77, 49406, 49407, 48894


def tokens(texts: Sequence[str], keep_end: bool = True, entities: bool = True) -> Tensor:
    """(item, 77) int64: start, pieces, end, zeros. What is too long is cut before the end token, or with it.

    `entities`: CLIP's own code reads HTML entities, twice; transformers' tokenizer only those that ftfy takes for such.

    Zeros behind the end change nothing: a token sees only what stands before it.
    """
    made = torch.zeros((len(texts), LENGTH), dtype=torch.int64)
    for n, text in enumerate(texts):
        pieces = _tokenizer()(cleaned(text, entities), add_special_tokens=False)["input_ids"]
        whole = [START, *(pieces[: LENGTH - 2] if keep_end else pieces), END][:LENGTH]
        made[n, : len(whole)] = torch.tensor(whole)
    return made


def cleaned(text: str, entities: bool = True) -> str:
    """Broken encodings mended, HTML entities read, blanks made one."""
    import ftfy

    mended = ftfy.fix_text(text)
    return " ".join((html.unescape(html.unescape(mended)) if entities else mended).split())


@cache
def _tokenizer() -> Any:
    """The byte-pair encoding of CLIP (Radford and others, 2021; the list of merges is under the MIT licence)."""
    from transformers import CLIPTokenizer

    packed = (files("mgx.data_manifests") / "clip_merges.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode().split("\n")[1 : MERGES + 1]
    merges = [tuple(line.split()) for line in lines]
    letters = _letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    pieces = [*words, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={piece: n for n, piece in enumerate(pieces)}, merges=merges)  # type: ignore[arg-type]


def _letters() -> list[str]:
    """A visible character for every byte: itself where it is visible, in the order of the vocabulary's first 256."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [*map(chr, visible), *(chr(256 + n) for n in range(256 - len(visible)))]
