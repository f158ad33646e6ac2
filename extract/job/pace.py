"""Estimates how long a pass will take, from what its first batches cost to decode and encode; said once."""

from collections.abc import Sequence

from mgx.extract.job.batches import Encoder
from mgx.extract.job.decoding import Decoding
from mgx.shared.progress import say

WORTH_SAYING = 60.0  # seconds to come


class Pace:
    """Watches a pass item by item. The first batch of an encoder is not counted: it loads the weights."""

    def __init__(self, what: str, device: str, encoders: Sequence[Encoder], decoding: Decoding, total: int) -> None:
        self.what, self.device, self.encoders, self.decoding, self.total = what, device, encoders, decoding, total
        self._done = 0
        self._told = False
        self._first: dict[int, tuple[int, int, float]] = {}  # by encoder, after its first batch: calls, items, seconds

    def advance(self) -> None:
        """One more item is done."""
        self._done += 1
        if self._told:
            return
        costs = {}
        for n, encoder in enumerate(self.encoders):
            if encoder.calls:
                calls, items, seconds = self._first.setdefault(n, (encoder.calls, self._done, encoder.seconds))
                if encoder.calls > calls:
                    costs[n] = (encoder.seconds - seconds) / (self._done - items)
        # A store that lacks one batch only has no second one to wait for.
        if len(costs) == len(self.encoders) or max(encoder.calls for encoder in self.encoders) > 3:
            self._told = True
            self._tell(sum(costs.values()))

    def _tell(self, encode: float) -> None:
        """`encode` is seconds an item, of all perceptors together."""
        workers = self.decoding.busy
        decode = self.decoding.seconds / max(1, workers)
        left = (self.total - self._done) * (max(decode, encode) if workers else decode + encode)
        if left > WORTH_SAYING:
            say(
                f"{self.what}: about {spoken(left)} to come on {self.device} (decode {_rate(decode)} items/s "
                f"with {workers} workers, encode {_rate(encode)} items/s)"
            )


def spoken(seconds: float) -> str:
    """3.2 hours, or 12 minutes."""
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.0f} minutes"


def _rate(seconds: float) -> str:
    return f"{1 / max(seconds, 1e-9):.3g}"
