"""`mgx store compare`: the same items or not, the same vectors or not, and what differs, in words and as JSON."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mgx.shared.cli import run
from mgx.shared.home import Home
from mgx.shared.plan import Rows, rows_digest
from mgx.shared.store import open_store, store_folder
from mgx.shared.store_setup import plan_store

Mgx = Callable[..., int]


@pytest.fixture
def mgx(home: Home) -> Mgx:
    return lambda *args: run(["--home", str(home.root), *map(str, args)])


def copy(home: Home, perceptor: str, rows: Callable[[Rows], Rows] = lambda rows: rows, **plan: Any) -> Path:
    """toy/eye/image as another perceptor's, with other rows or another plan; vectors go with their ids."""
    own = open_store(store_folder(home, "toy", "eye", "image"))
    vectors = own.read()
    changed = rows(own.rows)
    by_id = dict(zip(vectors.rows.ids, vectors.values, strict=True))
    values = np.stack([by_id.get(i, np.full(16, 7, np.float32)) for i in changed.ids])
    made = replace(own.plan, perceptor=perceptor, items=len(changed.ids), rows_digest=rows_digest(changed), **plan)
    with plan_store(home, made, changed) as store:
        for shard in store.missing():
            store.write(shard, values[made.rows_of(shard)], {})
    return store.folder


def of_image(home: Home, other: str, capsys: pytest.CaptureFixture[str], code: int) -> Any:
    """The comparison of toy/eye's image with another store of it."""
    image = store_folder(home, "toy", "eye", "image")
    assert run(["--home", str(home.root), "store", "compare", str(image), other, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_a_store_is_the_same_as_its_pack(home, toy, mgx, tmp_path, capsys):
    mgx("store", "pack", "-o", tmp_path / "x.zip")
    capsys.readouterr()
    assert mgx("store", "compare", "toy/eye", tmp_path / "x.zip") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "image: the same 120 items, labels and groups; the same vectors; made in the same way"
    assert len(lines) == 4


def test_another_perceptor_has_the_same_items(home, toy, capsys):
    copy(home, "ear", fingerprint="g", recipe={"version": 2})
    result = of_image(home, "toy/ear", capsys, 0)
    assert (result["same_items"], result["same_content"], result["same_recipe"]) == (True, True, False)
    made = result["modalities"][0]["made_differently"]
    assert made == {"fingerprint": ["f", "g"], "recipe": [{"version": 1}, {"version": 2}]}


def test_other_vectors_are_counted(home, toy, capsys):
    folder = copy(home, "ear")
    store = open_store(folder)
    values, _ = store.read_shard(2)
    values[4, 3] += 1
    store.write(2, values, {})
    result = of_image(home, "toy/ear", capsys, 0)
    assert (result["same_items"], result["same_content"], result["same_recipe"]) == (True, False, True)
    pair = result["modalities"][0]
    assert pair["other_vectors"] == 1
    before = values[4].copy()
    before[3] -= 1
    cosine = np.dot(before, values[4]) / np.linalg.norm(before) / np.linalg.norm(values[4])
    assert pair["least_cosine"] == pytest.approx(cosine, rel=1e-6)


def test_order_is_no_item(home, toy, capsys):
    copy(home, "ear", lambda rows: Rows(*(column[::-1] for column in (rows.ids, rows.labels, rows.groups, rows.parts))))
    result = of_image(home, "toy/ear", capsys, 0)
    assert result["same_content"]
    assert not result["modalities"][0]["same_order"]


CHANGES = {
    "only_first": lambda rows: Rows(*(c[1:] for c in (rows.ids, rows.labels, rows.groups, rows.parts))),
    "only_second": lambda rows: Rows(
        (*rows.ids, "more"), (*rows.labels, "ant"), (*rows.groups, "g"), (*rows.parts, "")
    ),
    "other_label": lambda rows: replace(rows, labels=("dog", *rows.labels[1:])),
    "other_group": lambda rows: replace(rows, groups=("g", *rows.groups[1:])),
    "other_part": lambda rows: replace(rows, parts=("test", *rows.parts[1:])),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_differs_in_items_is_named(what, home, toy, mgx, capsys):
    copy(home, "ear", CHANGES[what])
    result = of_image(home, "toy/ear", capsys, 1)
    assert not result["same_items"]
    assert result["modalities"][0][what] == ["more" if what == "only_second" else "item0000"]
    assert mgx("store", "compare", store_folder(home, "toy", "eye", "image"), "toy/ear") == 1
    said = capsys.readouterr()
    assert "not the same items" in said.out
    assert what.replace("_", " ").replace("only", "only in the").replace("other", "another") in said.out
    assert "do not hold the same items" in said.err


def test_a_modality_of_one_side_is_named(home, toy, mgx, capsys):
    copy(home, "ear")
    assert mgx("store", "compare", "toy/eye", "toy/ear") == 1
    assert "only in the first: depth, prompt, text" in capsys.readouterr().out


def test_skipped_items_are_not_held(home, toy, capsys):
    store = open_store(copy(home, "ear"))
    values, _ = store.read_shard(0)
    values[0] = np.nan
    store.write(0, values, {"item0000": "gone"})
    assert of_image(home, "toy/ear", capsys, 1)["modalities"][0]["only_first"] == ["item0000"]


def test_other_widths_are_no_error(home, toy, capsys):
    own = open_store(store_folder(home, "toy", "eye", "image"))
    plan = replace(own.plan, perceptor="wide", features=4)
    with plan_store(home, plan, own.rows) as store:
        for shard in store.missing():
            store.write(shard, np.ones((plan.rows_of(shard).stop - plan.rows_of(shard).start, 4), np.float32), {})
    result = of_image(home, "toy/wide", capsys, 0)
    assert result["modalities"][0]["other_vectors"] == -1
    assert not result["same_content"]


def test_what_is_not_there_is_named(home, toy, mgx, tmp_path, capsys):
    assert mgx("store", "compare", "toy/eye", "toy/nose") == 2
    assert "no stores 'toy/nose'" in capsys.readouterr().err
    (tmp_path / "x.zip").write_text("no")
    assert mgx("store", "compare", "toy/eye", tmp_path / "x.zip") == 2
    assert "no sound pack" in capsys.readouterr().err
