"""Hyperparameters: the published draws to the last bit, each knob on a stream of its own."""

from dataclasses import asdict, dataclass, fields

import pytest

from mgx.learn.algorithm import ALGORITHMS, Common
from mgx.learn.algorithms.concat import Hyper
from mgx.learn.space import Choice, Power, Uniform, check, draw, knob, ranged
from mgx.shared.errors import BadRequest


def test_published_draws_of_the_domain_generalization_knobs():
    published = ranged(Common, lr=(5e-5, Power(10, -5, -3.5)))
    assert asdict(draw(published, 1, 0)) == {
        "lr": 2.7028930742148706e-05,
        "weight_decay": 0.00044832883881609976,
        "batch_size": 39,
    }
    batch_sizes = [draw(Common, h, t).batch_size for h in (1, 2) for t in (0, 1, 2)]
    assert batch_sizes == [39, 8, 8, 25, 18, 37]


def test_published_draws_of_the_multi_modal_knobs():
    hyper = draw(Hyper, 1, 0)
    assert hyper.lr == 0.0003765059298634022
    assert hyper.weight_decay == 0.00010751017184998488
    assert hyper.momentum == 0.8983216227611648
    assert hyper.batch_size == 39


def test_seed_zero_means_the_defaults():
    assert draw(Common, 0, 0) == draw(Common, 0, 2) == Common()


def test_a_new_knob_moves_no_other():
    @dataclass(frozen=True)
    class More(Common):
        extra: float = knob(0.5, Uniform(0, 1))

    assert draw(More, 3, 1).lr == draw(Common, 3, 1).lr


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_every_default_and_every_draw_lies_in_its_range(name):
    hyper = ALGORITHMS.get(name).hyper
    for seed in range(20):
        setting = draw(hyper, seed, 1)
        check(setting)
        assert all(type(getattr(setting, f.name)) is type(f.default) for f in fields(hyper))


def test_another_range_keeps_names_order_and_the_other_knobs():
    made = ranged(Hyper, lr=(5.0, Uniform(0, 1)))
    assert [f.name for f in fields(made)] == [f.name for f in fields(Hyper)]
    assert made() == made(5.0, Hyper().weight_decay, Hyper().batch_size, Hyper().momentum)
    check(made())  # a default outside its range is a value to turn the knob off
    with pytest.raises(BadRequest, match="lr"):
        check(made(lr=6.0))
    assert draw(made, 1, 0).momentum == draw(Hyper, 1, 0).momentum


def test_out_of_range_is_named():
    with pytest.raises(BadRequest, match=r"lr = 3\.0"):
        check(Common(lr=3.0))
    check(Common(weight_decay=0.0))


def test_ranges_hold_their_ends():
    assert Power(10, -3.5, -4.5).holds(1e-4)
    assert not Power(10, -3.5, -4.5).holds(1e-3)
    assert Power(2, 3, 5.5, whole=True).holds(8)
    assert not Power(2, 3, 5.5, whole=True).holds(7)
    assert Choice(("tanh", "relu")).holds("relu")
