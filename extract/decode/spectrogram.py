"""Sound as encoders want it: 16 kHz, log-mel spectrograms of short clips."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mgx.extract.decode.pixels import spans
from mgx.shared.errors import BadItem

RATE = 16_000
SHORTEST = 400  # samples of one spectrogram frame


def resampled(wave: Tensor, rate: int) -> Tensor:
    """(channel, sample) float32 recorded at `rate` -> the same at 16 kHz, by windowed sinc."""
    from torchaudio.functional import resample

    made: Tensor = resample(wave, rate, RATE)
    return made


def log_mel(wave: Tensor, bins: int) -> Tensor:
    """(channel, sample) at 16 kHz -> (bins, frame) of the first channel: Kaldi's filter bank, 25 ms every 10 ms."""
    from torchaudio.compliance.kaldi import fbank

    if wave.shape[-1] < SHORTEST:
        raise BadItem(f"the sound is shorter than {1000 * SHORTEST // RATE} ms")
    like = {"htk_compat": True, "sample_frequency": RATE, "use_energy": False, "window_type": "hanning", "dither": 0.0}
    made: Tensor = fbank(wave, num_mel_bins=bins, **like)
    return made.mT


def clips(wave: Tensor, bins: int = 128, frames: int = 204, count: int = 3) -> Tensor:
    """(channel, sample) at 16 kHz -> (clip, 1, bins, frames): ImageBind's view of two seconds at the start, the middle
    and the end. Each clip is freed of its mean in the sound itself, which clips that overlap share.
    """
    wave, made = wave.clone(), []
    for start, end in spans(wave.shape[-1] / RATE, 2, count):
        clip = wave[:, int(start * RATE) : int(end * RATE)]
        clip -= clip.mean()
        mel = log_mel(clip, bins)[:, :frames]
        made.append(torch.nn.functional.pad(mel, (0, frames - mel.shape[1])))
    return (torch.stack(made)[:, None] + 4.268) / 9.138


def thirds(
    wave: Tensor, bins: int, frames: int, mean: float, std: float, lots: Sequence[float] = (0.0, 0.0, 0.0)
) -> Tensor:
    """(channel, sample) at 16 kHz -> (3, bins, frames): LanguageBind's view. A longer sound in three cuts, each at the
    first place of its third, or where `lots`, between 0 and 1, say (its authors draw them); a shorter one repeated.
    """
    mel = log_mel(wave - wave.mean(), bins)
    length = mel.shape[1]
    if length > frames:
        thirds = torch.tensor_split(torch.arange(length - frames + 1), 3)
        starts = [int(own[int(lot * len(own))]) if len(own) else 0 for own, lot in zip(thirds, lots, strict=True)]
        cuts = [mel[:, start : start + frames] for start in starts]
    else:
        cuts = [mel.repeat(1, -(-frames // length))[:, :frames]] * 3
    return (torch.stack(cuts) - mean) / (2 * std)
