"""Packs: the same stores give the same bytes, a stranger can read them, and nothing comes home that is not verified."""

import io
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import textwrap
import types
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest

from mgx.shared import address
from mgx.shared.cli import run
from mgx.shared.errors import BadRequest, Damaged, NotThere
from mgx.shared.files import digest, file_digest
from mgx.shared.home import Home, find_home
from mgx.shared.pack_install import fetch, unpack
from mgx.shared.plan import plan_text
from mgx.shared.store import open_store, store_folder, stores

Mgx = Callable[..., int]


@pytest.fixture
def mgx(home: Home) -> Mgx:
    return lambda *args: run(["--home", str(home.root), *map(str, args)])


@pytest.fixture
def pack(toy_pack: Path, tmp_path: Path) -> Path:
    """All stores of the toy data set in one file."""
    return Path(shutil.copy(toy_pack, tmp_path))


@pytest.fixture
def origin(toy_pack: Path) -> Home:
    """The home directory that it was packed from."""
    return find_home(toy_pack.parent / "home")


@pytest.fixture
def other(tmp_path: Path) -> Home:
    """A colleague's home directory."""
    return find_home(tmp_path / "colleague")


def tree(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".locks" not in path.parts]
    return {str(path.relative_to(folder)): file_digest(path) for path in files}


def members_of(pack: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(pack) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(pack: Path, members: dict[str, bytes], honest: bool = True) -> Path:
    """Pack other content; an `honest` index is of that content, as a hostile author would make it."""
    import hashlib

    if honest:
        index = json.loads(members["index.json"])
        index["members"] = {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in members.items()
            if name != "index.json"
        }
        members = {**members, "index.json": json.dumps(index).encode()}
    with zipfile.ZipFile(pack, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return pack


def test_the_same_stores_give_the_same_bytes(pack, toy, mgx, tmp_path):
    assert mgx("store", "pack", "-o", tmp_path / "again.zip") == 0
    assert (tmp_path / "again.zip").read_bytes() == pack.read_bytes()


def test_what_comes_home_is_what_was_packed(pack, origin, other):
    assert [result.outcome for result in fetch(pack, other)] == ["new"] * 4
    assert tree(other.embeddings) == tree(origin.embeddings)
    for theirs, own in zip(stores(other), stores(origin), strict=True):
        np.testing.assert_array_equal(theirs.read().values, own.read().values)
        assert theirs.read().rows == own.read().rows


def test_a_pack_of_a_fetched_store_is_the_same_pack(pack, other, tmp_path):
    fetch(pack, other)
    run(["--home", str(other.root), "store", "pack", "-o", str(tmp_path / "second.zip")])
    assert file_digest(tmp_path / "second.zip") == file_digest(pack)


def test_a_learner_runs_on_it(pack, other):
    fetch(pack, other)
    args = ["learn", "--algo", "erm", "--hparams", "1", "--trials", "1", "--steps", "2"]
    assert run(["--home", str(other.root), *args]) == 0


def test_it_is_read_without_mgx_as_its_readme_says(pack, origin, tmp_path):
    readme = members_of(pack)["README.txt"].decode()
    assert "toy/eye/image: 120 items x 16 features" in readme
    example = readme.split("Without mgx:\n")[1].replace("FILE", str(pack))
    example += textwrap.dedent("""
        import sys
        assert not any(name.startswith("mgx") for name in sys.modules)
        print(store, json.dumps([items["id"][5], items["label"][5], vectors.shape, float(vectors[5, 3])]), flush=True)
        import os
        os._exit(0)  # pyarrow's threads sometimes abort while Python shuts down
    """)
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    store, _, found = ended.stdout.partition(" ")
    vectors = open_store(store_folder(origin, *store.split("/"))).read()
    assert json.loads(found) == [
        vectors.rows.ids[5], vectors.rows.labels[5], list(vectors.values.shape), float(vectors.values[5, 3])
    ]  # fmt: skip


def test_the_index_knows_every_member(pack):
    import hashlib

    members = members_of(pack)
    index = json.loads(members.pop("index.json"))
    assert {n: hashlib.sha256(c).hexdigest() for n, c in members.items()} == {
        name: row["sha256"] for name, row in index["members"].items()
    }
    assert [row["store"] for row in index["stores"]] == [f"toy/eye/{m}" for m in ("depth", "image", "prompt", "text")]


def test_no_path_of_this_machine_is_packed(home, toy, mgx, tmp_path):
    place = "/home/somebody/secret/dataset.toml"
    for store in stores(home):
        about = {**store.plan.about, "reference": place}
        (store.folder / "plan.json").write_text(plan_text(replace(store.plan, about=about)))
    mgx("store", "pack", "-o", tmp_path / "x.zip")
    assert not any(b"somebody" in content for content in members_of(tmp_path / "x.zip").values())


def test_unfinished_and_damaged_stores_are_not_packed(home, toy, mgx, tmp_path, capsys):
    (store, *_) = stores(home)
    chunk = store.folder / "vectors/c/2/0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\x01")
    assert mgx("store", "pack", "-o", tmp_path / "x.zip") == 2
    assert "vectors/c/2/0 is not what was written" in capsys.readouterr().err
    store.forget(2)
    assert mgx("store", "pack", "-o", tmp_path / "x.zip") == 2
    assert "8 shards. Finish them with" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_file_that_is_there_is_kept(pack, toy, mgx, capsys):
    before = pack.read_bytes()
    assert mgx("store", "pack", "-o", pack) == 2
    assert "--replace" in capsys.readouterr().err
    assert pack.read_bytes() == before
    assert mgx("store", "pack", "-o", pack, "--replace") == 0


# ---- into a home directory that is not empty


def test_the_same_store_again_is_left_alone(pack, other):
    fetch(pack, other)
    chunk = next(stores(other)).folder / "vectors/c/0/0"
    before = chunk.stat().st_mtime_ns
    assert {result.outcome for result in fetch(pack, other)} == {"same"}
    assert chunk.stat().st_mtime_ns == before


def test_another_store_is_replaced_only_when_asked(pack, origin, other):
    fetch(pack, other)
    store = next(s for s in stores(other) if s.plan.modality == "image")
    values, _ = store.read_shard(1)
    store.write(1, values + 1, {})
    before = tree(other.embeddings)
    with pytest.raises(
        BadRequest, match=r"(?s)toy/eye/image: a store of the same recipe with other vectors.*--replace"
    ):
        fetch(pack, other)
    assert tree(other.embeddings) == before
    outcomes = {result.store: result.outcome for result in fetch(pack, other, anew=True)}
    assert outcomes["toy/eye/image"] == "replaced"
    assert outcomes["toy/eye/depth"] == "same"
    assert tree(other.embeddings) == tree(origin.embeddings)


def test_one_obstacle_keeps_all_out(pack, other):
    folder = store_folder(other, "toy", "eye", "text")
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text("{")
    with pytest.raises(BadRequest, match="toy/eye/text"):
        fetch(pack, other)
    assert list(tree(other.embeddings)) == ["toy/eye/text/plan.json"]


def test_missing_and_damaged_shards_are_mended(pack, origin, other):
    fetch(pack, other)
    first, second, *_ = stores(other)
    first.forget(3)
    chunk = second.folder / "vectors/c/2/0"
    chunk.write_bytes(b"\x00" * chunk.stat().st_size)
    outcomes = [result.outcome for result in fetch(pack, other)]
    assert outcomes == ["mended", "mended", "same", "same"]
    assert tree(other.embeddings) == tree(origin.embeddings)


KILLED = """
import os, sys
from pathlib import Path
from mgx.shared import pack_install
from mgx.shared.home import find_home
from mgx.shared.store import EmbeddingStore
calls = 0
def dies(original):
    def wrapped(*args, **kwargs):
        global calls
        calls += 1
        if calls == {after}:
            os._exit(9)
        return original(*args, **kwargs)
    return wrapped
pack_install.sync = dies(pack_install.sync)
pack_install.fetch(Path({pack!r}), find_home({home!r}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 40, 70, 72])  # 69 members, then 4 stores
def test_killed_and_rerun_nothing_half_written_is_taken_for_whole(after, pack, origin, other):
    code = KILLED.format(after=after, pack=str(pack), home=str(other.root))
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9, "it ended before it could be killed"
    for store in stores(other):
        assert store.missing() == []
        store.read()
    fetch(pack, other)
    assert tree(other.embeddings) == tree(origin.embeddings)


# ---- packs that are not what they should be


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"PK\x03\x04", b"\x00" * 1000], ids=["empty", "html", "zip", "zeros"]
)
def test_what_is_no_zip_is_named(content, tmp_path, other):
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(Damaged, match=r"x\.zip is no sound pack"):
        fetch(tmp_path / "x.zip", other)


def test_another_zip_is_named(tmp_path, other):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("README.txt", "hello")
    with pytest.raises(Damaged, match="no pack of mgx"):
        fetch(tmp_path / "x.zip", other)


def test_a_newer_format_is_named(pack, other):
    members = members_of(pack)
    members["index.json"] = members["index.json"].replace(b'"version": 1', b'"version": 2')
    with pytest.raises(Damaged, match="version 2; this mgx reads version 1"):
        fetch(rewrite(pack, members, honest=False), other)


@pytest.mark.parametrize(
    "index",
    [
        "[]",
        "5",
        "{",
        '{"format": "tar"}',
        '{"format": "mgx store pack", "version": 1, "members": {"a": 5}}',
        "[" * 9999,
    ],
)
def test_a_bad_index_is_named(index, pack, other):
    with pytest.raises(Damaged, match=r"toy\.zip is no pack of mgx"):
        fetch(rewrite(pack, {**members_of(pack), "index.json": index.encode()}, honest=False), other)


IMAGE = "toy/eye/image"


def entry(name: str, kind: int = stat.S_IFREG, **facts: Any) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.create_system, made.external_attr = 3, (kind | 0o644) << 16
    for key, value in facts.items():
        setattr(made, key, value)
    return made


HOSTILE = {
    "parent": (entry("../evil"), "not part of a store"),
    "absolute": (entry("/tmp/evil"), "not part of a store"),
    "escape within": (entry(f"{IMAGE}/../../../../evil/plan.json"), "not part of a store"),
    "backslash": (entry("..\\evil"), "not part of a store"),
    "stray file": (entry(f"{IMAGE}/run_me.py"), "not part of a store"),
    "dot store": (entry("../eye/image/plan.json"), "not part of a store"),
    "hidden store": (entry(".locks/eye/image/plan.json"), "not part of a store"),
    "link": (entry(f"{IMAGE}/commits/00009.json", stat.S_IFLNK), "link, folder or device"),
    "device": (entry(f"{IMAGE}/commits/00009.json", stat.S_IFCHR), "link, folder or device"),
    "folder": (entry(f"{IMAGE}/", stat.S_IFDIR), "link, folder or device"),
    "twice": (entry(f"{IMAGE}/plan.json"), "there twice"),
    "compressed": (entry(f"{IMAGE}/commits/00009.json", compress_type=zipfile.ZIP_DEFLATED), "compressed"),
    "unlisted": (entry("other/eye/image/plan.json"), "either not listed or not there"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_members_are_refused(case, pack, other, tmp_path):
    member, reason = HOSTILE[case]
    with zipfile.ZipFile(pack, "a") as archive:
        archive.writestr(member, b"x" * 1000)
    with pytest.raises(Damaged, match=reason):
        fetch(pack, other)
    assert tree(other.embeddings) == {}
    assert not list(tmp_path.rglob("evil*"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["colleague", "toy.zip"]


def changed_plan(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    """A plan with other values and a key that fits them."""

    def change(members: dict[str, bytes]) -> None:
        table = json.loads(members[f"{IMAGE}/plan.json"])
        del table["check"], table["key"]
        table |= changes
        table = {key: value for key, value in table.items() if value is not ...}
        key = digest({name: value for name, value in table.items() if name != "about"})[:20]
        members[f"{IMAGE}/plan.json"] = json.dumps({"key": key, **table}).encode()

    return change


def changed_items(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    """Rows of another content, with the plan's digest of them."""
    from mgx.shared.plan import Rows, rows_digest

    def change(members: dict[str, bytes]) -> None:
        table = parquet.read_table(io.BytesIO(members[f"{IMAGE}/items.parquet"])).to_pydict()
        for column, value in changes.items():
            table[column][7] = value
        sink = io.BytesIO()
        parquet.write_table(pyarrow.table(table), sink)
        members[f"{IMAGE}/items.parquet"] = sink.getvalue()
        rows = Rows(*(tuple(value or "" for value in table[c]) for c in ("id", "label", "group", "part")))
        changed_plan(rows_digest=rows_digest(rows))(members)

    return change


def changed_commit(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        body = json.loads(members[f"{IMAGE}/commits/00002.json"])
        body.pop("check")
        body |= changes
        members[f"{IMAGE}/commits/00002.json"] = json.dumps({**body, "check": digest(body)[:16]}).encode()

    return change


def changed_vectors(value: float) -> Callable[[dict[str, bytes]], None]:
    """A chunk with an unusable vector, and a record that fits it."""
    import hashlib

    def change(members: dict[str, bytes]) -> None:
        values = np.frombuffer(members[f"{IMAGE}/vectors/c/2/0"], "<f4").reshape(-1, 16).copy()
        values[3] = value
        members[f"{IMAGE}/vectors/c/2/0"] = values.tobytes()
        changed_commit(sha256=hashlib.sha256(values.tobytes()).hexdigest())(members)

    return change


def without(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.pop(f"{IMAGE}/{name}") and None


def shortened(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({f"{IMAGE}/{name}": members[f"{IMAGE}/{name}"][:-4]})


ABOUT = {"modalities": ["image"], "label_leaks": [], "steps": 301, "published_name": "", "embedded": ["image"]}
# What an author can write who also writes a fitting index.
LIES = {
    "another name": (changed_plan(modality="../../evil"), "another store"),
    "items of text": (changed_plan(items="120"), "not a store's plan"),
    "too many items": (changed_plan(items=10**12), "cannot be"),
    "no items": (changed_plan(items=0), "cannot be"),
    "huge features": (changed_plan(features=2**40), "cannot be"),
    "features of -1": (changed_plan(features=-1), "cannot be"),
    "objects": (changed_plan(dtype="object"), "cannot be"),
    "classes of numbers": (changed_plan(classes=[1, 2]), "not a store's plan"),
    "classes twice": (changed_plan(classes=["ant", "bee", "cat", "dog", "dog"]), "named twice"),
    "a class that steers": (changed_plan(classes=["ant", "bee", "cat", "dog", "\x1b[2J"]), "cannot be printed"),
    "unknown key": (changed_plan(run="rm"), "does not match its key"),
    "no recipe": (changed_plan(recipe=...), "not a store's plan"),
    "no steps": (changed_plan(about={**ABOUT, "steps": None}), "not a store's plan"),
    "no modalities": (changed_plan(about={"steps": 3}), "not a store's plan"),
    "other items": (changed_plan(rows_digest="0" * 64), "not what was written"),
    "fewer classes": (changed_plan(classes=["ant", "bee"]), "labels that are no class"),
    "id twice": (changed_items(id="item0000"), "an item twice"),
    "a strange part": (changed_items(part="exam"), "a part that there is not"),
    "an id that steers": (changed_items(id="a\x1b[2J"), "cannot be printed"),
    "no id": (changed_items(id=None), "cannot be read"),
    "skips a stranger": (changed_commit(skipped={"item9999": "x"}), "skips items that are not in it"),
    "skips a list": (changed_commit(skipped=[1]), "skips items that are not in it"),
    "a reason that steers": (changed_commit(skipped={"item0030": "\x1b[2J"}), "cannot be printed"),
    "rows of another shard": (changed_commit(start=0), "the record of shard 2 is of rows"),
    "not a number": (changed_vectors(np.nan), "not finite"),
    "zero": (changed_vectors(0), "all-zero"),
    "no plan": (without("plan.json"), "plan.json is not"),
    "no items file": (without("items.parquet"), "items.parquet cannot be read"),
    "no record": (without("commits/00003.json"), "records of 7 shards, 8 are planned"),
    "no chunk": (without("vectors/c/3/0"), "7 chunks, 8 are planned"),
    "short chunk": (shortened("vectors/c/3/0"), "chunk 3 has"),
    "short items": (shortened("items.parquet"), "items.parquet cannot be read"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", LIES)
def test_lies_with_a_fitting_index_are_found(case, pack, other, tmp_path):
    change, reason = LIES[case]
    members = members_of(pack)
    change(members)
    with pytest.raises(Damaged, match=reason) as caught:
        fetch(rewrite(pack, members), other)
    assert "toy.zip" in str(caught.value)
    assert "mgx extract" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert tree(other.embeddings) == {}
    assert not list(tmp_path.rglob("evil*"))


def test_the_description_of_the_array_is_ours(pack, other):
    members = members_of(pack)
    sound = members[f"{IMAGE}/vectors/zarr.json"]
    members[f"{IMAGE}/vectors/zarr.json"] = sound.replace(b'"codecs"', b'"storage_transformers": [{}], "codecs"')
    fetch(rewrite(pack, members), other)
    assert (store_folder(other, "toy", "eye", "image") / "vectors/zarr.json").read_bytes() == sound


@pytest.mark.parametrize("line", ["rm -rf ~", "mgx extract; rm -rf ~", "mgx $(x)", "mgx \x1b[2J", "mgx a\nb"])
def test_no_command_of_a_stranger_is_recommended(line, pack, other):
    members = members_of(pack)
    changed_plan(about={**ABOUT, "made_by": line, "mended_by": line})(members)
    fetch(rewrite(pack, members), other)
    store = open_store(store_folder(other, "toy", "eye", "image"))
    assert store.command == "mgx extract --dataset toy --perceptor eye"
    assert store.retry == f"{store.command} --retry-skipped"


@pytest.mark.parametrize("name", ["README.txt", f"{IMAGE}/items.parquet", f"{IMAGE}/vectors/c/2/0"])
def test_a_member_that_is_not_as_the_index_says_is_named(name, pack, other):
    members = members_of(pack)
    members[name] = members[name][:-1] + b"x"
    with pytest.raises(Damaged, match=f"{name}' is not what was packed"):
        fetch(rewrite(pack, members, honest=False), other)


def test_every_flipped_bit_is_found(pack, other):
    sound = pack.read_bytes()
    numbers = random.Random(3)
    for _ in range(30):
        broken = bytearray(sound)
        broken[numbers.randrange(len(sound))] ^= 1 << numbers.randrange(8)
        pack.write_bytes(bytes(broken))
        try:
            fetch(pack, other)
        except Damaged:
            assert tree(other.embeddings) == {}
        else:  # dates and the like, of which nothing depends
            for store in stores(other):
                store.read()
            shutil.rmtree(other.embeddings)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_packs_are_named(share, pack, other):
    content = pack.read_bytes()
    pack.write_bytes(content[: int(share * len(content))])
    with pytest.raises(Damaged, match=r"toy\.zip is no sound pack"):
        fetch(pack, other)
    assert tree(other.embeddings) == {}


# ---- the command


def test_fetch_by_path_says_what_came(pack, other, capsys):
    assert run(["--home", str(other.root), "store", "fetch", str(pack), "--json"]) == 0
    said = capsys.readouterr()
    assert [row["outcome"] for row in json.loads(said.out)] == ["new"] * 4
    assert "toy/eye/image: 120 items, stored" in said.err


def test_the_digest_given_is_checked(pack, other, capsys):
    assert run(["--home", str(other.root), "store", "fetch", str(pack), "--sha256", "0" * 64]) == 2
    assert "expected 000" in capsys.readouterr().err
    assert run(["--home", str(other.root), "store", "fetch", str(pack), "--sha256", file_digest(pack).upper()]) == 0


@pytest.mark.parametrize(
    ("address", "part"),
    [
        ("nowhere.zip", "no file nowhere.zip"),
        ("http://127.0.0.1:9/", "names no file"),
        ("hf:owner/file", "is not hf:owner/repository/file"),
    ],
)
def test_addresses_that_name_nothing(address, part, other, capsys):
    assert run(["--home", str(other.root), "store", "fetch", address]) == 2
    assert part in capsys.readouterr().err


@pytest.fixture
def downloads(pack: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked of stand-ins for the functions that download and know the hub, which give the toy pack."""
    asked: list[Any] = []

    def give(addresses: list[Any], target: Path, **facts: Any) -> None:
        asked.append((addresses, facts["size"], facts["sha256"]))
        shutil.copy(pack, target)

    def find(repo: str, revision: str, path: str, kind: str) -> Any:
        return types.SimpleNamespace(address=f"{kind} {repo} {path} {revision}", size=5, sha256="5e")

    for name, stand_in in (("Address", str), ("download", give), ("hub_file", find)):
        monkeypatch.setattr(address, name, stand_in)
    return asked


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("http://127.0.0.1:9/a%20b/toy.zip?x=1", (["http://127.0.0.1:9/a%20b/toy.zip?x=1"], None, "")),
        ("hf:some/where/deep/toy.zip", (["dataset some/where deep/toy.zip "], 5, "5e")),
        ("hf:some/where/toy.zip@v2", (["dataset some/where toy.zip v2"], 5, "5e")),
    ],
)
def test_what_is_downloaded_is_removed_when_it_is_home(address, asked, downloads, other):
    assert run(["--home", str(other.root), "store", "fetch", address]) == 0
    assert downloads == [asked]
    assert len(list(stores(other))) == 4
    assert not list(other.root.rglob("*.zip"))


def test_a_download_that_is_no_pack_is_kept_out(downloads, pack, other, capsys):
    pack.write_text("<html>")
    assert run(["--home", str(other.root), "store", "fetch", "http://127.0.0.1:9/toy.zip"]) == 2
    assert "no sound pack" in capsys.readouterr().err
    assert list(stores(other)) == []
    assert not list(other.root.rglob("*.zip"))


def test_a_download_that_waits_for_replace_is_kept(downloads, pack, other, capsys):
    folder = store_folder(other, "toy", "eye", "text")
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text("{")
    assert run(["--home", str(other.root), "store", "fetch", "http://127.0.0.1:9/toy.zip"]) == 2
    kept = other.embeddings / ".fetch" / "toy.zip"
    assert f"The download is kept as {kept}" in capsys.readouterr().err
    assert run(["--home", str(other.root), "store", "fetch", str(kept), "--replace"]) == 0


def test_unpack_refuses_a_pack_without_stores(pack, tmp_path):
    members = members_of(pack)
    kept = {name: members[name] for name in ("README.txt", "index.json")}
    with pytest.raises(Damaged, match="holds no store"):
        unpack(rewrite(pack, kept), tmp_path / "x")


def test_packing_nothing_is_named(home, mgx, tmp_path, capsys):
    assert mgx("store", "pack", "-o", tmp_path / "x.zip") == 2
    assert "no such embeddings" in capsys.readouterr().err
    with pytest.raises(NotThere):
        open_store(home.embeddings)
