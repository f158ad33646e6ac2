"""The measures of a space against worked examples, and through the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mgx.shared.cli import run
from mgx.shared.geometry import cka, modality_gap, mutual_neighbours, recall, unit
from mgx.shared.plan import PROMPT
from mgx.shared.store import open_store, store_folder

RANDOM = np.random.default_rng(0)


def points(items=200, features=12):
    return unit(RANDOM.normal(size=(items, features)))


def test_recall_counts_what_is_better():
    queries = unit(np.array([[1, 0], [0, 1], [1, 1.0]]))
    candidates = unit(np.array([[1, 0.1], [1, 0], [0, 1.0]]))
    # query 0: candidate 1 is better. query 1: 0 and 2 are better. query 2: 0 is better, 1 and 2 tie.
    assert recall(queries, candidates, (1, 2, 3)) == pytest.approx((0, (1 + 0 + 0.5) / 3, 1))


def test_recall_of_equal_candidates_is_what_a_random_order_finds():
    same = np.ones((10, 3), np.float32)
    assert recall(unit(same), unit(same), (1, 4, 10, 20)) == pytest.approx((0.1, 0.4, 1, 1))


def test_recall_of_oneself_is_perfect():
    assert recall(points(), points()) != (1, 1)
    own = points()
    assert recall(own, own) == (1, 1)


def test_the_gap_is_the_distance_of_the_means():
    right, up = np.array([[1.0, 0], [1, 0]]), np.array([[0.0, 1], [0, -1]])
    assert modality_gap(right, up) == pytest.approx(1)
    assert modality_gap(right, -right) == pytest.approx(2)
    assert modality_gap(up, up) == 0


def test_mutual_neighbours_of_a_rotation_and_of_chance():
    own = points(400)
    turn, _ = np.linalg.qr(RANDOM.normal(size=(12, 12)))
    assert mutual_neighbours(own, own @ turn, 10) == pytest.approx(1)
    assert mutual_neighbours(own, points(400), 10) == pytest.approx(10 / 399, abs=0.01)
    line = np.array([[0.0], [1], [2.1], [3.3]])  # as similarities: larger is nearer to everything
    assert mutual_neighbours(line, line, 1) == 1


def test_cka_knows_rotations_and_has_no_bias():
    own = points(60, 12)
    turn, _ = np.linalg.qr(RANDOM.normal(size=(12, 12)))
    assert cka(own, 3 * own @ turn) == pytest.approx(1, abs=1e-6)
    unrelated = [cka(points(60, 300), points(60, 300)) for _ in range(20)]
    assert abs(np.mean(unrelated)) < 0.02  # the biased estimate is about 0.8 here
    assert np.isnan(cka(np.ones((20, 3)), own[:20]))


def test_cka_is_the_estimate_that_was_published():
    a, b = (RANDOM.normal(size=(7, 3)) for _ in range(2))

    def hsic(k, m):
        k, m = k * (1 - np.eye(7)), m * (1 - np.eye(7))
        one = np.ones(7)
        middle = (one @ k @ one) * (one @ m @ one) / (6 * 5)
        return (np.trace(k @ m) + middle - 2 / 5 * one @ k @ m @ one) / (7 * 4)

    k, m = a @ a.T, b @ b.T
    assert cka(a, b) == pytest.approx(hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m)))


def test_describing_a_home(toy, capsys):
    assert run(["--home", str(toy.home.root), "store", "describe", "--json"]) == 0
    (space,) = json.loads(capsys.readouterr().out)
    assert {own["modality"]: own["items"] for own in space["zero_shot"]} == dict.fromkeys(toy.modalities, 120)
    assert all(own["accuracy"] > 0.9 for own in space["zero_shot"])  # the toy's prompts are its class centres
    assert [(p["one"], p["other"]) for p in space["pairs"]] == [
        ("image", "depth"),
        ("image", "text"),
        ("depth", "text"),
    ]
    assert all(p["instances"] == p["measured"] == 120 and p["cka"] > 0.5 for p in space["pairs"])
    assert run(["--home", str(toy.home.root), "store", "describe"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "toy/eye"
    assert told[1].startswith("  image: zero-shot ") and told[-1].startswith("  depth, text: depth -> text R@1 ")


def test_what_heads_were_bound_on_is_left_out(toy, capsys):
    """The first 40 items lie on their prompts in every modality, exactly; the others are noise."""
    prompts = open_store(store_folder(toy.home, "toy", "eye", PROMPT)).read()
    toy.store(toy.plan(PROMPT, prompts.rows, perceptor="bound"), prompts.rows, prompts.values)
    rows = replace(toy.rows(), parts=("align",) * 40 + ("test",) * 80)
    for modality in toy.modalities:
        values = toy.random.normal(size=(120, 16)).astype(np.float32)
        values[:40] = prompts.values[[prompts.rows.ids.index(label) for label in rows.labels[:40]]]
        toy.store(toy.plan(modality, rows, perceptor="bound"), rows, values)
    assert run(["--home", str(toy.home.root), "store", "describe", "--perceptor", "bound", "--json"]) == 0
    (space,) = json.loads(capsys.readouterr().out)
    assert (space["parts"], space["aligned"]) == (["test"], 40)
    assert all(own["items"] == 80 and own["accuracy"] < 0.5 for own in space["zero_shot"])
    assert all(p["instances"] == 80 and p["retrieval"][f"{p['one']} -> {p['other']}"][0] < 0.1 for p in space["pairs"])
    assert run(["--home", str(toy.home.root), "store", "describe", "--perceptor", "bound"]) == 0
    assert capsys.readouterr().out.startswith("toy/bound, part test, without 40 instances of part align\n")


def test_strong_perceptors_share_no_space(toy, capsys):
    for modality in (*toy.modalities, PROMPT):
        own = open_store(store_folder(toy.home, "toy", "eye", modality))
        toy.store(replace(own.plan, perceptor="strong"), own.rows, own.read().values)
    assert run(["--home", str(toy.home.root), "store", "describe", "--perceptor", "strong", "--json"]) == 0
    (space,) = json.loads(capsys.readouterr().out)
    assert not space["zero_shot"]
    assert all(p["gap"] is None and not p["retrieval"] and p["cka"] > 0.5 for p in space["pairs"])


def test_nothing_to_describe(home, capsys):
    assert run(["--home", str(home.root), "store", "describe"]) == 2
    assert "no such embeddings" in capsys.readouterr().err
