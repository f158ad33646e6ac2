"""Seeds are the published ones; the numbers come from running the published code."""

import pytest

from mgx.shared.seeds import job_seed, seed_of, stream


@pytest.mark.parametrize(
    ("parts", "seed"),
    [
        ((1, 0), 785910682),
        ((1, 1), 1442673865),
        ((2, 1), 181139023),
        ((2, 2), 248334461),
        ((0, 0), 894182419),
        ((785910682, "lr"), 2037049235),
        ((785910682, "weight_decay"), 747043534),
        ((785910682, "batch_size"), 132509163),
    ],
)
def test_the_published_hash(parts, seed):
    assert seed_of(*parts) == seed


def test_published_job_seeds():
    assert job_seed("MSR_VTT", "ERM", [0], 1, 0) == 1056938711
    assert job_seed("MSR_VTT", "ERM", [0, 1], 1, 0) == 2068653244
    assert job_seed("VGGSound_S", "ERM", [0], 1, 0) == 764465092


def test_streams_are_independent_and_repeatable():
    assert stream("a", 1).random() == stream("a", 1).random()
    assert len({stream("a", 1).random(), stream("a", 2).random(), stream("b", 1).random()}) == 3
