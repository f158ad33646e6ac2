"""Tiny models with random weights, saved to a folder as the hub has them: sizes, weights, preprocessing, words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

WORDS = ["a", "photo", "of", "dog", "cat", "barks", "red", "blue", "green", "bird", "quiet", "loud"]
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
ENDS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
SIGHT = {**SIZES, "image_size": 32, "patch_size": 8}
HEARING = {
    "spec_size": 128,
    "num_mel_bins": 64,
    "hidden_size": 32,
    "patch_embeds_hidden_size": 8,
    "depths": [1, 1, 1],
    "num_attention_heads": [2, 2, 2],
    "window_size": 4,
    "num_hidden_layers": 3,
}


def word_list(specials: list[str]) -> dict[str, int]:
    """Letters and a few words as tokens, after the special ones."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*specials, *letters, *(letter + "</w>" for letter in letters), "Ġ", "▁"]
    return {token: n for n, token in enumerate(dict.fromkeys(tokens))}


def save(folder: Path, model: Any, *others: Any) -> Path:
    """One snapshot of weights that are not all small, so that a swapped or a missing one shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    model.eval().save_pretrained(folder)
    for other in others:
        other.save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    words = word_list(["<|startoftext|>", "<|endoftext|>", "<pad>"])
    text = {**SIZES, "vocab_size": len(words), "max_position_embeddings": 12, "bos_token_id": 0, "eos_token_id": 1}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config={**text, "pad_token_id": 1}, vision_config=SIGHT, projection_dim=8))
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return save(folder, model, pictures, CLIPTokenizer(vocab=words, merges=[]))


def metaclip_2(folder: Path) -> Path:
    from transformers import CLIPImageProcessorPil, CLIPTokenizer, MetaClip2Config, MetaClip2Model

    words = word_list(["<|startoftext|>", "<|endoftext|>", "<pad>"])
    text = {**SIZES, "vocab_size": len(words), "max_position_embeddings": 12, "bos_token_id": 0, "eos_token_id": 1}
    torch.manual_seed(1)
    sizes = MetaClip2Config(text_config={**text, "pad_token_id": 2}, vision_config=SIGHT, projection_dim=8)
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    tokenizer = CLIPTokenizer(vocab=words, merges=[], pad_token="<pad>")
    return save(folder, MetaClip2Model(sizes), pictures, tokenizer)


def siglip(folder: Path) -> Path:
    from transformers import GemmaTokenizer, SiglipConfig, SiglipImageProcessorPil, SiglipModel

    words = word_list(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"])
    text = {**SIZES, "vocab_size": len(words), "max_position_embeddings": 20, **ENDS}
    torch.manual_seed(2)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=SIGHT))
    pictures = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    return save(folder, model, pictures, GemmaTokenizer(vocab=words, merges=[], padding_side="right"))


def siglip2(folder: Path) -> Path:
    from transformers import Siglip2Config, Siglip2ImageProcessorPil, Siglip2Model, Siglip2Tokenizer

    words = word_list(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"])
    text = {**SIZES, "vocab_size": len(words), "max_position_embeddings": 20, **ENDS}
    torch.manual_seed(3)
    model = Siglip2Model(Siglip2Config(text_config=text, vision_config={**SIZES, "patch_size": 8, "num_patches": 16}))
    pictures = Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)
    return save(folder, model, pictures, Siglip2Tokenizer(vocab=words, merges=[], padding_side="right"))


def clap(folder: Path, fusion: bool = False) -> Path:
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, RobertaTokenizer

    words = word_list(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    text = {**SIZES, "vocab_size": len(words), "max_position_embeddings": 24, "projection_dim": 8}
    heard = {**HEARING, "enable_fusion": fusion, "fusion_type": "aff_2d" if fusion else None}
    torch.manual_seed(4)
    model = ClapModel(ClapConfig(text_config=text, audio_config={**heard, "projection_dim": 8}, projection_dim=8))
    sounds = ClapFeatureExtractor(
        sampling_rate=8000,
        hop_length=80,
        max_length_s=1,
        fft_window_size=256,
        frequency_max=4000,
        truncation="fusion" if fusion else "rand_trunc",
    )
    return save(folder, model, sounds, RobertaTokenizer(vocab=words, merges=[]))


def clap_fused(folder: Path) -> Path:
    return clap(folder, fusion=True)


def gemma(folder: Path) -> Path:
    from transformers import (
        EmbeddingGemma2Config,
        EmbeddingGemma2Model,
        EmbeddingGemma2Processor,
        EmbeddingGemma2VideoProcessor,
        Gemma4AudioFeatureExtractor,
        Gemma4ImageProcessor,
        GemmaTokenizer,
    )

    media = {"image": ("<|image>", "<|image|>", "<image|>"), "audio": ("<|audio>", "<|audio|>", "<audio|>")}
    marks = [mark for marks in media.values() for mark in marks]
    words = word_list(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *marks, "<|video|>"])
    named = {}
    for what, (begin, mark, end) in media.items():
        named |= {f"bo{what[0]}_token": begin, f"{what}_token": mark, f"eo{what[0]}_token": end}
    tokenizer = GemmaTokenizer(vocab=words, merges=[], extra_special_tokens=["<|video|>"], **named)
    ids = {f"{key}_id": words[mark] for key, mark in named.items() if key != "eoa_token"}
    places = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, **places, **ENDS, "sliding_window": 8}
    text |= {"global_head_dim": 8, "sliding_window_pattern": 2, "hidden_size_per_layer_input": 8, "embedding_dim": 24}
    seen = {**SIZES, "num_key_value_heads": 2, "head_dim": 8, "patch_size": 4, "position_embedding_size": 128}
    heard = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "output_proj_dims": 12}
    torch.manual_seed(5)
    sizes = EmbeddingGemma2Config(
        text_config=text | {"vocab_size": len(words)},
        vision_config=seen | {"model_type": "gemma4_vision", "pooling_kernel_size": 3},
        audio_config=heard | {"model_type": "gemma4_audio", "subsampling_conv_channels": [128, 4]},
        eoa_token_index=words["<audio|>"],
        video_token_id=words["<|video|>"],
        **ids,
    )
    processor = EmbeddingGemma2Processor(
        feature_extractor=Gemma4AudioFeatureExtractor(),
        image_processor=Gemma4ImageProcessor(patch_size=4, max_soft_tokens=70),
        tokenizer=tokenizer,
        video_processor=EmbeddingGemma2VideoProcessor(patch_size=4, max_soft_tokens=70, max_frames=3),
    )
    return save(folder, EmbeddingGemma2Model(sizes), processor)


SNAPSHOTS: dict[str, Callable[[Path], Path]] = {
    "clip": clip,
    "metaclip_2": metaclip_2,
    "siglip": siglip,
    "siglip2": siglip2,
    "clap": clap,
    "clap_fused": clap_fused,
}
