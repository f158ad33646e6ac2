"""FeatureSet: rows are joined by id, vectors are of unit length, and what is wrong is named."""

from dataclasses import replace

import numpy as np
import pytest

from mgx.learn.features import feature_sets
from mgx.shared.errors import BadRequest, Damaged, NotThere
from mgx.shared.plan import Rows
from tests.conftest import features_of


def test_modalities_are_joined_by_id(home, toy):
    rows = toy.rows()
    backwards = Rows(*(tuple(reversed(c)) for c in (rows.ids, rows.labels, rows.groups, rows.parts)))
    values = np.arange(1, 121, dtype=np.float32)[:, None] * np.ones((1, 16), np.float32)
    values[:, 0] += np.arange(120)
    toy.store(toy.plan("audio", backwards, dataset="toy"), backwards, values[::-1])
    toy.modalities = (*toy.modalities, "audio")
    data = features_of(home)
    assert "audio" not in data.modalities, "a modality that the manifest of the first store does not list"
    for modality in data.modalities:
        assert (data.rows[modality] >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(data.matrix, axis=1), 1, rtol=1e-6)


def test_missing_modalities_shift_nobody(home, toy):
    rows = toy.rows()
    some = Rows(*(c[::2] for c in (rows.ids, rows.labels, rows.groups, rows.parts)))
    values = np.eye(16, dtype=np.float32)[np.arange(60) % 16] * 3
    plan = toy.plan("image", some, dataset="half")
    toy.store(plan, some, values)
    toy.store(toy.plan("depth", rows, dataset="half"), rows, np.ones((120, 16), np.float32))
    data = features_of(home, "half")
    assert list(data.having("image", np.arange(120))) == list(range(0, 120, 2))
    np.testing.assert_array_equal(data.matrix[data.rows["image"][10]], np.eye(16, dtype=np.float32)[5])


def test_filters_name_what_is_missing(home, toy):
    assert len(feature_sets(home)) == 1
    with pytest.raises(NotThere, match="mgx extract --dataset other"):
        feature_sets(home, ["toy", "other"])
    with pytest.raises(NotThere, match="perceptor 'ear'"):
        feature_sets(home, [], ["ear", "eye"])


def test_two_labels_for_one_item_are_named(home, toy):
    rows = toy.rows()
    wrong = Rows(rows.ids, ("bee", *rows.labels[1:]), rows.groups, rows.parts)
    toy.store(toy.plan("image", rows, dataset="odd"), rows, np.ones((120, 16), np.float32))
    toy.store(toy.plan("depth", wrong, dataset="odd"), wrong, np.ones((120, 16), np.float32))
    with pytest.raises(Damaged, match="item0000"):
        features_of(home, "odd")


def test_two_widths_are_named(home, toy):
    rows = toy.rows()
    toy.store(toy.plan("image", rows, dataset="wide"), rows, np.ones((120, 16), np.float32))
    toy.store(toy.plan("depth", rows, dataset="wide", features=8), rows, np.ones((120, 8), np.float32))
    with pytest.raises(BadRequest, match=r"8 features.*16|16 features.*8"):
        features_of(home, "wide")


def test_rows_alike_are_found(home, toy):
    matrix = np.array([[1, 2], [0, 0], [1, 2], [0, -0.0], [0, 0], [2, 1]], np.float32)
    data = replace(features_of(home), matrix=matrix)
    assert data.first.tolist() == [0, 1, 0, 3, 1, 5]
    assert replace(data, matrix=matrix + 1).first.tolist() == [0, 1, 0, 1, 1, 5], "0 is -0 no more"
