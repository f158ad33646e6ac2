"""The whole way of the published data sets: fetched from a server that fails, checked, embedded, learned, selected.

Each in its real format, made small from real media. The first fetch ends with the name of the fault, the second
continues at the byte, and what follows never knows.
"""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mgx.extract.download import fetch_cli
from mgx.shared.cli import run
from mgx.shared.download import Patience
from mgx.shared.home import Home
from tests.extract import published
from tests.server import Drop, Fault, Instead, Redirect, Served, Server, Stall

pytestmark = pytest.mark.slow
GROUPS = 8  # of each of three classes: enough for a test, a validation and a training part
PAGE = b"<!doctype html><title>Please wait</title>"


def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets large enough to learn from."""
    scenes = [f"{name}_{n:04}" for name in ("kitchen", "bedroom", "office") for n in range(GROUPS)]
    monkeypatch.setattr(published, "SCENES", tuple(scenes))
    clips = {
        f"video{n + (7010 if n % 4 == 0 else 0)}": (
            (9, 16, 3)[n % 3],
            f"https://example.org/{n}",
            "test" if n % 4 == 0 else "train",
            n % 8 != 7,
        )
        for n in range(3 * GROUPS)
    }
    monkeypatch.setattr(published, "CLIPS", clips)
    labels = ("people marching", "waterfall burbling", "playing guiro")
    rows = [(f"{n:011}", n, labels[n % 3], "test" if n % 4 == 0 else "train") for n in range(3 * GROUPS)]
    monkeypatch.setattr(published, "ROWS", tuple(rows))


def described(name: str, root: Path, source: str) -> None:
    """A shipped manifest as that of a folder, with another source."""
    published.own(name, root)
    text = (root / "dataset.toml").read_text()
    head, _, rest = text.partition("[[source]]")
    (root / "dataset.toml").write_text(f"{head}{source}\n[items]{rest.partition('[items]')[2]}")


def zipped(folder: Path) -> bytes:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(folder).as_posix())
    return path.read_bytes()


def file(path: str, **more: object) -> str:
    return "\n".join(["[[source.file]]", *(f"{k} = {json.dumps(v)}" for k, v in ({"path": path} | more).items())])


def msrvtt(server: Server, made: Path, root: Path) -> str:
    """The Oxford zip and the challenge's annotations; the address of the file to be spoiled."""
    server.files["/m/MSRVTT.zip"] = Served(zipped(published.msrvtt(made, "oxford")))
    described(
        "msrvtt",
        root,
        f'[[source]]\nid = "oxford"\nkind = "http"\nurl = "{server.url}/m/"\n' + file("MSRVTT.zip", unpack="zip"),
    )
    return "/m/MSRVTT.zip"


def nyudv2(server: Server, made: Path, root: Path) -> str:
    """The hub's tars, which are read where they lie."""
    published.nyudv2(made, "shards")
    names = ["data/train-000000.tar", "data/train-000001.tar"]
    commit = server.hub("somebody/nyu", {name: (made / name).read_bytes() for name in names})
    source = f'[[source]]\nid = "hf"\nkind = "hf"\nrepo = "somebody/nyu"\nrevision = "{commit}"\n'
    described("nyudv2", root, source + "\n".join(map(file, names)))
    return f"/datasets/somebody/nyu/resolve/{commit}/{names[1]}"


def vggsound(server: Server, made: Path, root: Path) -> str:
    """Two of the hub's archives, unpacked, and the list."""
    published.vggsound(made, "archives")
    names = ["vggsound_00.tar.gz", "vggsound_01.tar.gz"]
    content = {name: (made / name).read_bytes() for name in ("vggsound.csv", *names)}
    commit = server.hub("somebody/vgg", content)
    source = f'[[source]]\nid = "hf"\nkind = "hf"\nrepo = "somebody/vgg"\nrevision = "{commit}"\n'
    unpacked = [file(name, unpack="tar.gz", match="*.mp4", strip=7, into="video") for name in names]
    described("vggsound", root, source + "\n".join([file("vggsound.csv"), *unpacked]))
    return f"/datasets/somebody/vgg/resolve/{commit}/{names[1]}"


@pytest.mark.parametrize(
    ("serve", "fault", "said"),
    [
        (msrvtt, Drop(5000), "broke after 5,000 bytes"),
        (msrvtt, Instead(PAGE, "text/html"), "page"),
        (nyudv2, Stall(7000), "silent"),
        (nyudv2, Redirect("/round"), "redirect"),
        (vggsound, Drop(5000), "broke after 5,000 bytes"),
        (vggsound, Instead(b"wrong bytes"), "bytes"),
    ],
)
def test_fetched_checked_embedded_learned_selected(
    serve: Callable[[Server, Path, Path], str],
    fault: Fault,
    said: str,
    tmp_path: Path,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    many(monkeypatch)
    monkeypatch.setattr(fetch_cli, "PATIENCE", Patience(connect=5, stall=1, tries=1, pause=0.01))
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv("MGX_HOME", str(home.root))
    root = tmp_path / "data"

    def mgx(*args: str) -> tuple[int, str]:
        code = run(["--home", str(home.root), *args])
        out, err = capsys.readouterr()
        return code, out + err

    with Server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.files["/round"] = Served(b"", always=Redirect("/round"))
        path = serve(server, tmp_path / "made", root)
        shutil.rmtree(tmp_path / "made")
        server.files[path].always = fault
        code, text = mgx("data", "fetch", str(root))
        assert code in (1, 2) and said in text, text
        server.files[path].always = None
        server.log.clear()
        code, text = mgx("data", "fetch", str(root))
        assert code == 0, text
        assert (server.ranges(path)[0] == f"bytes={getattr(fault, 'after', 0)}-") == hasattr(fault, "after")
        assert not [asked for asked in server.log if asked.method == "GET" and asked.path not in (path,)], (
            "fetched twice"
        )
    for command in (
        ("data", "check", str(root), "--media"),
        ("extract", "--dataset", str(root), "--perceptor", "watcher:PERCEPTOR"),
        ("learn", "--algo", "erm", "--hparams", "1", "--trials", "1", "--steps", "20"),
        ("select", "--method", "all"),
    ):
        code, text = mgx(*command)
        assert code == 0, text
    assert "erm: 3 of 3 reported runs" in text
