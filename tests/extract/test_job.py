"""`mgx extract` on small real media: complete, resumable to the byte, and honest about what it cannot use."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from mgx.shared.cli import run
from mgx.shared.home import Home, find_home
from mgx.shared.store import open_store, store_folder
from tests.extract.small import ITEMS, MANIFEST, make, tree

WHERE = ("extract", "--perceptor", "eyes:PERCEPTOR", "--dataset")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small data set of real files, and the test's perceptor on the path."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return make(tmp_path / "small")


def extract(home: Home, data: Path, *more: str) -> int:
    return run(["--home", str(home.root), *WHERE, str(data / "dataset.toml"), *more])


def vectors(home: Home, modality: str):
    return open_store(store_folder(home, "small", "eyes", modality)).read()


def test_all_modalities_and_the_class_prompts_are_stored(home, data):
    assert extract(home, data) == 0
    for modality in ("image", "text", "audio"):
        assert vectors(home, modality).rows.ids == tuple(f"i{n:02}" for n in range(4, ITEMS))
    assert vectors(home, "prompt").rows.ids == ("cat", "dog")
    want = len("a photo of a cat")
    assert vectors(home, "prompt").values[0, 0] == want


def test_the_views_of_an_item_are_averaged(home, data):
    extract(home, data)
    views = [np.asarray(Image.open(data / f"image/i07_{v}.png"), np.float64) for v in range(2)]
    want = np.mean([view.mean((0, 1)) for view in views], 0)
    np.testing.assert_allclose(vectors(home, "image").values[3, :3], want, rtol=1e-6)
    plan = json.loads((store_folder(home, "small", "eyes", "image") / "plan.json").read_text())
    assert (plan["recipe"]["views"], plan["recipe"]["views_combined_by"]) == (2, "mean")


def test_items_that_heads_were_bound_on_are_left_out(home, data):
    extract(home, data)
    assert not {"i00", "i01", "i02", "i03"} & set(vectors(home, "text").rows.ids)


HARMS = {
    "a truncated PNG": ("image/i09_1.png", lambda b: b[: len(b) // 2], "image"),
    "an empty PNG": ("image/i09_1.png", lambda b: b"", "image"),
    "text called PNG": ("image/i09_0.png", lambda b: b"hello", "image"),
    "unreadable audio": ("audio/i09.wav", lambda b: b"RIFF" + b[:20], "audio"),
    "empty audio": ("audio/i09.wav", lambda b: b"", "audio"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_unusable_media_are_listed_and_shift_nobody(home, data, harm, capsys):
    name, change, modality = HARMS[harm]
    extract(home, data)
    whole = vectors(home, modality)
    other = find_home(home.root.parent / "other")
    sound = (data / name).read_bytes()
    (data / name).write_bytes(change(sound))
    assert extract(other, data) == 0
    said = capsys.readouterr().err
    assert "skipped i09: " in said
    assert "1 item could not be used. Mend it, and try again: mgx extract --dataset" in said
    got = vectors(other, modality)
    assert list(got.skipped) == ["i09"]
    assert name in got.skipped["i09"]
    assert str(data) not in got.skipped["i09"], "a store must not depend on where the data lies"
    kept = [n for n, i in enumerate(whole.rows.ids) if i != "i09"]
    np.testing.assert_array_equal(got.values, whole.values[kept])
    assert extract(other, data, "--retry-skipped") == 0
    assert f"{modality}: 20 items, 1 of 10 shards" in capsys.readouterr().err
    (data / name).write_bytes(sound)
    assert extract(other, data) == 0
    assert tree(other.embeddings) == tree(home.embeddings)


def test_missing_files_and_empty_texts_are_absent_and_counted(home, data, capsys):
    (data / "audio/i10.wav").unlink()
    table = (data / "items.csv").read_text().replace(f"This is number {'x' * 11}.", " ")
    (data / "items.csv").write_text(table)
    assert extract(home, data) == 0
    said = capsys.readouterr().err
    assert "small/eyes/audio: 19 items (1 more have none)" in said
    assert "small/eyes/text: 19 items (1 more have none)" in said
    assert "i10" not in vectors(home, "audio").rows.ids
    assert "i11" not in vectors(home, "text").rows.ids


BAD_TABLES = {
    "wrong label": (lambda t: t.replace("i05,dog", "i05,dgo"), "Did you mean 'dog'"),
    "duplicate id": (lambda t: t.replace("i06,", "i05,"), "i05"),
    "outside the root": (lambda t: t.replace("i05,", "../../i05,"), "i05"),
    "zero items": (lambda t: t.splitlines()[0] + "\n", "no item"),
    "all in align": (lambda t: "".join(line + "\n" for line in t.splitlines()[:5]), "align"),
}


@pytest.mark.parametrize("harm", BAD_TABLES)
def test_a_wrong_table_ends_with_a_named_error_and_nothing_written(home, data, harm, capsys):
    change, part = BAD_TABLES[harm]
    (data / "items.csv").write_text(change((data / "items.csv").read_text()))
    assert extract(home, data) == 2
    said = capsys.readouterr().err
    assert part in said
    assert "Traceback" not in said
    assert not home.embeddings.exists()


def test_a_manifest_with_a_typo_is_named(home, data, capsys):
    (data / "dataset.toml").write_text(MANIFEST.replace("views = 2", "veiws = 2"))
    assert extract(home, data) == 2
    assert "modalities.image.veiws: unknown key. Did you mean 'views'?" in capsys.readouterr().err


def test_an_item_that_lies_outside_by_a_link_is_refused(home, data, tmp_path, capsys):
    (tmp_path / "secret.png").write_bytes((data / "image/i05_0.png").read_bytes())
    (data / "image/i05_0.png").unlink()
    (data / "image/i05_0.png").symlink_to(tmp_path / "secret.png")
    assert extract(home, data) == 2
    assert "i05" in capsys.readouterr().err
    assert not home.embeddings.exists()


def test_all_zero_vectors_are_refused_and_the_rest_is_kept(home, data, monkeypatch, capsys):
    monkeypatch.setenv("MGX_TEST_BLANK", "text")
    assert extract(home, data, "--modality", "text") == 1
    assert "item 'i04' has an all-zero vector" in capsys.readouterr().err
    assert extract(home, data, "--modality", "image") == 0
    monkeypatch.delenv("MGX_TEST_BLANK")
    assert extract(home, data) == 0
    assert len(vectors(home, "text").rows.ids) == 20


def test_a_full_disk_ends_with_a_line_and_the_same_command_continues(home, data, monkeypatch, capsys):
    extract(find_home(home.root.parent / "other"), data)
    from mgx.shared import store, store_setup

    real, calls = store.write_whole, []

    def fill_up(path: Path, content: str | bytes) -> None:
        calls.append(path)
        if len(calls) > 9:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, content)

    with monkeypatch.context() as patch:
        for module in (store, store_setup):
            patch.setattr(module, "write_whole", fill_up)
        assert extract(home, data) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert not list(home.root.rglob("*.draft"))
    assert extract(home, data) == 0
    assert tree(home.embeddings) == tree(home.root.parent / "other" / "embeddings")


def test_changed_media_are_embedded_again_and_nothing_else(home, data, capsys):
    extract(home, data)
    before = vectors(home, "text").values
    table = (data / "items.csv").read_text().replace(f"number {'x' * 9}.", "number nine.")
    (data / "items.csv").write_text(table)
    Image.fromarray(np.full((9, 9, 3), 7, np.uint8)).save(data / "image/i09_0.png")
    capsys.readouterr()
    assert extract(home, data) == 0
    said = capsys.readouterr().err
    assert "small/eyes/text: 20 items, 1 of 10 shards" in said
    assert "small/eyes/image: 20 items, 1 of 10 shards" in said
    assert "small/eyes/audio: 20 items, 0 of 10 shards" in said
    after = vectors(home, "text").values
    assert after[5, 0] == len("This is number nine.")
    assert (before != after).any(1).sum() == 1


def test_changed_media_that_are_refused_leave_no_old_vectors(home, data, monkeypatch, capsys):
    extract(home, data)
    table = (data / "items.csv").read_text().replace(f"number {'x' * 9}.", "number nine.")
    (data / "items.csv").write_text(table)
    monkeypatch.setenv("MGX_TEST_BLANK", "text")
    assert extract(home, data) == 1
    assert open_store(store_folder(home, "small", "eyes", "text")).missing() == [2]


def test_media_that_change_while_they_are_read_are_read_again(home, data, monkeypatch, capsys):
    from eyes import Eyes

    real = Eyes.encode

    def encode_and_change(self, modality, views):
        path = data / "audio/i04.wav"  # of the first shard, read already
        if modality == "audio" and path.stat().st_size < 9000:
            soundfile.write(path, np.ones(6000) * 0.1, 16000)
        return real(self, modality, views)

    monkeypatch.setattr(Eyes, "encode", encode_and_change)
    extract(home, data)
    capsys.readouterr()
    assert extract(home, data) == 0
    assert "small/eyes/audio: 20 items, 1 of 10 shards" in capsys.readouterr().err
    assert vectors(home, "audio").values[0, 2] == 6000


def test_replace_starts_anew_whatever_is_there(home, data, capsys):
    extract(home, data)
    assert extract(home, data, "--replace") == 0
    assert "10 of 10 shards" in capsys.readouterr().err


def test_a_data_set_of_which_nothing_can_be_used_has_failed(home, data, capsys):
    for path in (data / "audio").iterdir():
        path.write_bytes(b"no sound")
    assert extract(home, data) == 1
    assert "small/eyes/audio: not one item could be used" in capsys.readouterr().err
    assert len(vectors(home, "image").rows.ids) == 20


def test_modalities_are_matched_by_name_then_by_kind_and_others_are_named(home, data, capsys):
    manifest = MANIFEST.replace("[modalities.text]", "[modalities.caption]").replace(
        "[modalities.audio]", "[modalities.map]\nkind = 'depth'\nunit = 'mm'\npath = '{id}.png'\n[modalities.speech]"
    )
    (data / "dataset.toml").write_text(manifest)
    assert extract(home, data) == 0
    assert "eyes does not embed map of small" in capsys.readouterr().err
    assert vectors(home, "caption").values[0, 0] == len("This is number xxxx.")
    assert len(vectors(home, "speech").rows.ids) == 20


def test_a_device_that_is_not_there_is_named(home, data, capsys):
    for name in ("nonsense", "cuda:7", "xpu"):
        assert extract(home, data, "--device", name) == 2
        assert name.split(":")[0] in capsys.readouterr().err


def test_a_dry_run_sees_what_can_be_described_anew(home, data, capsys):
    assert extract(home, data) == 0
    for plan in home.embeddings.glob("small/eyes/image/plan.json"):
        plan.write_text("{")
    capsys.readouterr()
    assert extract(home, data, "--dry-run", "--json") == 0
    assert {row["to_do"] for row in json.loads(capsys.readouterr().out)} == {0}
    assert extract(home, data) == 0


def test_dry_run_writes_nothing(home, data, capsys):
    assert extract(home, data, "--dry-run", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["modality"], r["items"], r["to_do"] == r["shards"]) for r in rows] == [
        ("image", 20, True),
        ("text", 20, True),
        ("audio", 20, True),
        ("prompt", 2, True),
    ]
    assert not home.embeddings.exists()


def test_another_data_set_of_the_same_name_is_not_mixed_in(home, data, capsys):
    extract(home, data)
    before = tree(home.embeddings)
    table = (data / "items.csv").read_text().replace("i05,dog", "i05,cat")
    (data / "items.csv").write_text(table)
    assert extract(home, data) == 2
    assert "--replace" in capsys.readouterr().err
    assert tree(home.embeddings) == before
    assert extract(home, data, "--replace") == 0
    assert vectors(home, "text").rows.labels[1] == "cat"


def test_an_unshared_modality_is_named(home, data, capsys):
    assert extract(home, data, "--modality", "depth") == 2
    assert "do not share the modality 'depth'. They share: image, text, audio" in capsys.readouterr().err


def commits(home: Home) -> list[Path]:
    return list(home.embeddings.glob("small/eyes/*/commits/*.json"))


def kill_after(seconds: float, home: Home, data: Path) -> int:
    """Run the command in a process of its own, SIGKILL it a while after its first commit; its exit code."""
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "MGX_TEST_SLEEP": "0.02", "PYTHONPATH": paths}
    code = "from mgx.shared.cli import main; main()"
    args = [sys.executable, "-c", code, "--home", str(home.root), *WHERE, str(data / "dataset.toml")]
    victim = subprocess.Popen(args, env=environment, stderr=subprocess.DEVNULL)
    done = len(commits(home))
    while victim.poll() is None and len(commits(home)) == done:
        time.sleep(0.002)
    time.sleep(seconds)
    victim.send_signal(signal.SIGKILL)
    return victim.wait()


@pytest.mark.slow
def test_killed_at_random_and_rerun_gives_the_same_bytes(home, data):
    undisturbed = find_home(home.root.parent / "other")
    assert extract(undisturbed, data) == 0
    chance = random.Random(0)
    killed = sum(kill_after(chance.uniform(0, 0.1), home, data) == -signal.SIGKILL for _ in range(6))
    assert killed >= 4, "too few kills for this test to mean anything"
    assert 6 <= len(commits(home)) < len(commits(undisturbed)), "kills must leave work both done and undone"
    assert extract(home, data) == 0
    assert tree(home.embeddings) == tree(undisturbed.embeddings)
