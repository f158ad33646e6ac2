"""What strong perceptors start from: T5's encoder for text (Raffel and others, 2020, https://arxiv.org/abs/1910.10683),
and the Vision Transformer (Dosovitskiy and others, 2021, https://arxiv.org/abs/2010.11929) for all that is a picture.

As transformers has them, opened without a word and only if every weight was in the file. Both put their vector into
the first token: ViT's is made for that, T5's is simply the first piece of the text.
"""

import json
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mgx.extract.strong.selfsupervised import Encoder, Views
from mgx.extract.weights.pretrained import understood
from mgx.extract.weights.tensors import ASK_AGAIN, read_weights
from mgx.shared.errors import MISSHAPEN, Damaged

MOST_TOKENS = 512  # what is longer is cut, before the token that ends a text
WEIGHTS = "model.safetensors"


def open_t5(folder: Path) -> nn.Module:
    """The encoder of a T5; of the decoder nothing is kept. Damaged if the folder holds anything else."""
    from transformers import T5EncoderModel

    return _opened(T5EncoderModel, "t5", folder)


def open_vit(folder: Path) -> nn.Module:
    """A Vision Transformer without its pooler and its classes. Damaged if the folder holds anything else."""
    from transformers import ViTModel

    return _opened(ViTModel, "vit", folder, add_pooling_layer=False)


def _opened(network: Any, kind: str, folder: Path, **more: Any) -> nn.Module:
    again = f"{ASK_AGAIN} {folder.name}"
    try:
        found = json.loads((folder / "config.json").read_text())["model_type"]
    except MISSHAPEN as error:
        raise Damaged(f"{folder / 'config.json'} describes no model: {error}. {again}") from error
    if found != kind:
        raise Damaged(f"{folder} holds a model of type {found!r}, expected {kind!r}. {again}")
    read_weights(folder / WEIGHTS)  # a file that is none is refused here, in one line
    load = partial(
        network.from_pretrained,
        folder,
        local_files_only=True,
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        dtype=torch.float32,
        **more,
    )
    with torch.random.fork_rng([]):
        own, told = understood(folder, load)
    wrong = sorted(told["missing_keys"]) + sorted(str(key) for key in told["mismatched_keys"])
    if wrong:
        raise Damaged(f"{folder / WEIGHTS}: {len(wrong)} weights are missing or of another shape ({wrong[0]}). {again}")
    made: nn.Module = own.eval().requires_grad_(False)
    return made


def tokens(folder: Path, texts: Sequence[str]) -> Views:
    """Token numbers (item, token), padded with 0, and 1 where there is a token."""
    found = [encoding.ids for encoding in _tokenizer(folder).encode_batch(list(texts))]
    longest = max(map(len, found))
    x = torch.tensor([own + [0] * (longest - len(own)) for own in found])
    return Views(x, torch.tensor([[1] * len(own) + [0] * (longest - len(own)) for own in found]))


@cache
def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        own = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise Damaged(f"{path} is no tokenizer ({error}). {ASK_AGAIN} {folder.name}") from error
    own.no_padding()
    own.enable_truncation(MOST_TOKENS)
    return own


def pictures(folder: Path, prepared: Sequence[np.ndarray]) -> Views:
    """(item, 3, 224, 224) float32."""
    return Views(torch.from_numpy(np.stack(prepared)))


def first_of_t5(backbone: Any, views: Views) -> Tensor:
    found: Tensor = backbone(input_ids=views.x, attention_mask=views.text).last_hidden_state[:, 0]
    return found


def first_of_vit(backbone: Any, views: Views) -> Tensor:
    found: Tensor = backbone(pixel_values=views.x).last_hidden_state[:, 0]
    return found


def _width_of_t5(backbone: Any) -> int:
    return int(backbone.config.d_model)


def _width_of_vit(backbone: Any) -> int:
    return int(backbone.config.hidden_size)


def _wrapped_of_t5(backbone: Any) -> int:
    return len(T5.targets) * int(backbone.config.num_layers)


def _wrapped_of_vit(backbone: Any) -> int:
    return len(VIT.targets) * int(backbone.config.num_hidden_layers)


T5 = Encoder(
    name="t5",
    checkpoint="t5_small",
    targets=("q", "k", "v", "o", "wi", "wo"),
    open=open_t5,
    views=tokens,
    first=first_of_t5,
    width=_width_of_t5,
    wrapped=_wrapped_of_t5,
)
VIT = Encoder(
    name="vit",
    checkpoint="vit_base",
    targets=("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"),
    open=open_vit,
    views=pictures,
    first=first_of_vit,
    width=_width_of_vit,
    wrapped=_wrapped_of_vit,
)
