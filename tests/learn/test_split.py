"""The split: by group, shared by all modalities, fixed test part, stratified, order-free."""

from itertools import pairwise

import numpy as np
import pytest

from mgx.learn.split import split
from mgx.shared.errors import BadRequest


def data(classes=4, groups=12, size=3, parts=""):
    ids, labels, own, where = [], [], [], []
    for c in range(classes):
        for g in range(groups):
            for k in range(size):
                ids.append(f"{c}-{g:02}-{k}")
                labels.append(f"class{c}")
                own.append(f"{c}-{g}")
                where.append(parts)
    return ids, labels, own, where


def sides(made):
    return {"train": set(made.train), "val": set(made.val), "test": set(made.test)}


def test_every_instance_is_on_one_side():
    made = split(*data(), trial_seed=0)
    assert sorted([*made.train, *made.val, *made.test]) == list(range(144))


def test_no_group_is_on_two_sides():
    ids, labels, groups, parts = data()
    for seed in range(5):
        made = split(ids, labels, groups, parts, seed)
        names = [{groups[i] for i in own} for own in (made.train, made.val, made.test)]
        assert not names[0] & names[1]
        assert not names[0] & names[2]
        assert not names[1] & names[2]


def test_shares_are_60_20_20_in_every_class():
    ids, labels, groups, parts = data(groups=20)
    made = split(ids, labels, groups, parts, 0)
    for c in range(4):
        for side, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
            own = sum(labels[i] == f"class{c}" for i in getattr(made, side))
            assert own / 60 == pytest.approx(share, abs=0.05)


def test_trial_seeds_redraw_all_but_the_test_part():
    first, second = split(*data(), trial_seed=0), split(*data(), trial_seed=1)
    np.testing.assert_array_equal(first.test, second.test)
    assert set(first.val) != set(second.val)


def test_order_does_not_matter():
    ids, labels, groups, parts = data()
    order = np.random.default_rng(0).permutation(len(ids))
    made = split(ids, labels, groups, parts, 3)
    again = split(*([column[i] for i in order] for column in (ids, labels, groups, parts)), trial_seed=3)
    assert {ids[i] for i in made.val} == {ids[order[i]] for i in again.val}
    assert {ids[i] for i in made.test} == {ids[order[i]] for i in again.test}


def test_the_data_sets_own_test_part_is_kept():
    ids, labels, groups, _ = data()
    parts = ["test" if g.endswith(("-1", "-2", "-3")) else "learn" for g in groups]
    made = split(ids, labels, groups, parts, 0)
    assert {i for i, p in enumerate(parts) if p == "test"} == set(made.test)


def test_a_class_with_one_group_is_cut_into_blocks_and_named():
    ids, labels, groups, parts = data(groups=6)
    groups = ["only" if label == "class0" else g for label, g in zip(labels, groups, strict=True)]
    made = split(ids, labels, groups, parts, 0)
    assert made.blocked == ("class0",)
    for side in (made.train, made.val, made.test):
        own = sorted(i for i in side if labels[i] == "class0")
        assert own
        assert sum(b - a > 1 for a, b in pairwise(own)) <= 2, "blocks must be contiguous"


def test_groups_of_several_classes_stay_whole():
    ids, labels, groups, parts = data(classes=2, groups=10)
    groups = [g.split("-")[1] for g in groups]  # each group now holds both classes
    made = split(ids, labels, groups, parts, 0)
    assert not {groups[i] for i in made.train} & {groups[i] for i in [*made.val, *made.test]}


def test_too_little_data_is_named():
    with pytest.raises(BadRequest, match="empty"):
        split(["a", "b"], ["x", "y"], ["1", "2"], ["", ""], 0)
