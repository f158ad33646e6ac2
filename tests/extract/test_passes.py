"""How a data set is embedded: by workers or not, in batches of any size, for several perceptors at once."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mgx.extract.decode import media
from mgx.extract.encoders import imagebind as network
from mgx.extract.job import batches, decoding, pace
from mgx.extract.job.batches import NUMBERS, Encoder, Vectors
from mgx.extract.job.decoding import Decoding, Job, Wish
from mgx.extract.job.pace import Pace
from mgx.extract.perceptor import Opening
from mgx.extract.perceptors import imagebind
from mgx.extract.perceptors.imagebind import ImageBind
from mgx.shared import plan
from mgx.shared.cli import run
from mgx.shared.errors import BadItem
from mgx.shared.home import Home, find_home
from mgx.shared.item import Text
from mgx.shared.manifest import Modality, find_manifest
from mgx.shared.store import open_store, store_folder
from tests.extract.published import clip
from tests.extract.small import make, tree
from tests.extract.test_encoders import TINY, checkpoint

EYES, WIDE, FRAGILE = "eyes:PERCEPTOR", "eyes:Wide", "eyes:Fragile"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return make(tmp_path / "small")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are started however little there is to do."""
    monkeypatch.setattr(decoding, "WORTH", 0.0)
    monkeypatch.setattr(decoding, "HANDING", 0.0)


def extract(home: Home, data: Path, *more: str, perceptors: Sequence[str] = (EYES,)) -> int:
    named = [word for name in perceptors for word in ("--perceptor", name)]
    return run(["--home", str(home.root), "extract", *named, "--dataset", str(data / "dataset.toml"), *more])


def other(home: Home, name: str = "other") -> Home:
    return find_home(home.root.parent / name)


# ---- workers


def test_any_number_of_workers_gives_the_same_bytes(home: Home, data: Path, at_once: None) -> None:
    (data / "image/i09_1.png").write_bytes(b"no picture")
    (data / "audio/i11.wav").write_bytes(b"no sound")
    for workers in ("0", "1", "2"):
        assert extract(other(home, workers), data, "--workers", workers, "--batch", "3") == 0
    assert len(tree(other(home, "0").embeddings)) > 40
    assert tree(other(home, "1").embeddings) == tree(other(home, "0").embeddings)
    assert tree(other(home, "2").embeddings) == tree(other(home, "0").embeddings)


SLOWLY = pytest.mark.slow  # they differ from pictures and sounds in what decodes them, not in how they are handed over


@pytest.mark.parametrize(
    "modality",
    ["image", "audio", *(pytest.param(m, marks=SLOWLY) for m in ("video", "depth", "thermal"))],
)
def test_workers_prepare_what_is_prepared_here(home: Home, data: Path, at_once: None, modality: str) -> None:
    """Views of a picture's real size, which are handed over through shared memory."""
    manifest = find_manifest(str(data / "dataset.toml"), home)
    settings = Modality(kind=modality, unit="mm" if modality == "depth" else "")  # type: ignore[arg-type]
    named = {0: data / "image/i00_0.png", 1: data / "image/i03_1.png"}
    if modality == "audio":
        named = {0: data / "audio/i00.wav", 1: data / "audio/i02.wav"}
    if modality == "video":
        named = {n: clip(data / f"{n}.mp4", n) for n in range(2)}
    if modality == "depth":
        for n, path in named.items():
            grey = np.asarray(Image.open(path).convert("L"), np.uint16)
            Image.fromarray(np.where(grey < 40, 0, 500 + grey * 20).astype(np.uint16)).save(data / f"{n}.png")
        named = {n: data / f"{n}.png" for n in named}
    perceptor = ImageBind(home, "cpu")
    jobs = [Job(n, f"i{n}", (Wish("imagebind", modality, settings, (named[n % 2],) * (n % 3)),)) for n in range(24)]
    opening = Opening("imagebind", home, "", manifest)
    with Decoding({"imagebind": perceptor}, {"imagebind": opening}, 2, 4) as decode:
        found = [views for _, (views,) in decode.prepared(iter(jobs), len(jobs))]
        assert decode.busy == 2
    for job, views in zip(jobs, found, strict=True):
        assert isinstance(views, list) and len(views) == job.row % 3
        for view in views:
            want = perceptor.prepare(modality, settings, named[job.row % 2])
            assert view.dtype == want.dtype and view.nbytes > 2**16 and np.array_equal(view, want)


def test_little_work_starts_no_workers(home: Home, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "start_workers", lambda *_: pytest.fail("a worker for twenty items"))
    assert extract(home, data, "--workers", "2") == 0


def test_the_pace_is_told_from_the_last_items_so_that_a_million_take_ten_times_as_long_as_a_tenth(
    home: Home, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eyes import Eyes

    looked_at = []
    monkeypatch.setattr(decoding, "median", lambda times: looked_at.append(len(times)) or 0.0)
    with Decoding({"eyes": Eyes(home, "cpu")}, {}, 0, 16) as decode:
        assert len(list(decode.prepared(texts(100), 100))) == 100
    assert looked_at[:4] == [1, 1, 2, 3] and max(looked_at) == decoding.RECENT


def test_much_work_that_is_quicker_done_than_handed_over_starts_no_workers() -> None:
    decode = Decoding({}, {}, 2, 16)
    decode.seconds = decoding.HANDING / 2
    assert not decode._worth_workers(10**9)
    decode.seconds = decoding.HANDING * 2
    assert decode._worth_workers(10**9) and not decode._worth_workers(1000)


def test_a_worker_that_dies_is_one_line_and_what_is_finished_is_kept(
    home: Home, data: Path, at_once: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "audio/die").touch()
    assert extract(home, data, "--workers", "1", perceptors=[FRAGILE]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mgx: ")]
    assert len(said) == 1 and "a process that prepares media ended suddenly" in said[0]
    assert re.search(r"at item 'i(08|09|10|11|12|13)'", said[0])
    assert not open_store(store_folder(home, "small", "fragile", "image")).missing()
    # And a pass that failed stops no other.
    assert [open_store(store_folder(home, "small", "fragile", m)).missing() for m in ("text", "prompt")] == [[], []]
    (data / "audio/die").unlink()
    assert extract(home, data, perceptors=[FRAGILE]) == 0
    assert extract(other(home), data, perceptors=[FRAGILE]) == 0
    assert tree(home.embeddings) == tree(other(home).embeddings)


def texts(number: int) -> Iterator[Job]:
    settings = Modality(kind="text", column="text")
    for n in range(number):
        yield Job(n, f"i{n}", (Wish("eyes", "text", settings, (Text("" if n == 7 else f"text {n}"),)),))


@pytest.mark.slow
def test_a_worker_that_hangs_ends_itself_and_the_command_says_so(
    home: Home, data: Path, at_once: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decoding, "LONGEST", 1.0)  # for the message
    (data / "audio/hang").write_text("1")
    assert extract(home, data, "--workers", "1", perceptors=[FRAGILE]) == 1
    said = capsys.readouterr().err
    assert "took more than 0.0166667 minutes" in said and "Traceback" not in said
    (data / "audio/hang").unlink()
    assert extract(home, data, perceptors=[FRAGILE]) == 0


def test_workers_keep_the_order_and_run_ahead_by_a_bounded_number(home: Home, data: Path, at_once: None) -> None:
    from eyes import Eyes

    taken = count()
    ahead = []

    def watched() -> Iterator[Job]:
        for job in texts(400):
            next(taken)
            yield job

    manifest = find_manifest(str(data / "dataset.toml"), home)
    with Decoding({"eyes": Eyes(home, "cpu")}, {"eyes": Opening(EYES, home, "", manifest)}, 2, 16) as decode:
        for n, (job, (made,)) in enumerate(decode.prepared(watched(), 400)):
            assert job.row == n
            assert isinstance(made, BadItem) if n == 7 else made == [f"text {n}"]
            ahead.append(int(repr(taken)[6:-1]) - n - 1)
        assert decode.busy == 2
    assert max(ahead[:4]) == 0
    assert 4 < max(ahead) <= 2 * 2 + 16


COMMAND = "import mgx.extract.job.decoding as d; d.WORTH = d.HANDING = 0.0; from mgx.shared.cli import main; main()"


def begun(home: Home, data: Path, perceptor: str = EYES) -> subprocess.Popen[str]:
    """The command with two workers in a session of its own, once the first shard is committed."""
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "MGX_TEST_SLEEP": "0.05", "PYTHONPATH": paths}
    args = ["--home", str(home.root), "extract", "--perceptor", perceptor, "--workers", "2"]
    args = [sys.executable, "-c", COMMAND, *args, "--dataset", str(data / "dataset.toml")]
    started = subprocess.Popen(args, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while started.poll() is None and not commits(home):
        time.sleep(0.002)
    return started


def commits(home: Home) -> list[Path]:
    return list(home.embeddings.glob("small/*/*/commits/*.json"))


def left_over(session: int) -> list[str]:
    """What still runs of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


def gone(session: int) -> bool:
    for _ in range(200):
        if not left_over(session):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_stopped_or_killed_nothing_is_left_behind_and_the_rest_gives_the_same_bytes(home: Home, data: Path) -> None:
    stopped = begun(home, data)
    os.killpg(stopped.pid, signal.SIGINT)
    said = stopped.communicate(timeout=60)[1]
    assert stopped.returncode == 130
    assert [line for line in said.splitlines() if line and "to do" not in line] == [
        "mgx: stopped. What is finished is kept; the same command continues."
    ]
    assert gone(stopped.pid)
    done = len(commits(home))
    assert 0 < done < 20
    killed = begun(home, data)
    while killed.poll() is None and len(commits(home)) < done + 8:
        time.sleep(0.002)
    assert len(left_over(killed.pid)) >= 4, "the command, the server of its workers, and two workers"
    killed.kill()
    killed.communicate()
    assert gone(killed.pid)
    assert done < len(commits(home)) < 32
    assert extract(home, data) == 0
    assert extract(other(home), data) == 0
    assert tree(home.embeddings) == tree(other(home).embeddings)


@pytest.mark.slow
def test_a_worker_that_hangs_does_not_hold_up_who_stops_the_command(home: Home, data: Path) -> None:
    (data / "image" / "hang").touch()
    stopped = begun(home, data, FRAGILE)
    while not (hanging := data / "image" / "hangs").exists() and stopped.poll() is None:
        time.sleep(0.01)
    assert hanging.exists()
    os.killpg(stopped.pid, signal.SIGINT)
    try:
        said = stopped.communicate(timeout=120)[1]
    finally:
        if stopped.poll() is None:
            os.killpg(stopped.pid, signal.SIGKILL)
    assert stopped.returncode == 130 and "Traceback" not in said
    assert gone(stopped.pid)


# ---- several perceptors


def test_several_perceptors_in_one_pass_equal_one_by_one(
    home: Home, data: Path, at_once: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "CHUNK_BYTES", 64)  # shards of two items and of one
    assert extract(home, data, "--workers", "1", perceptors=[EYES, WIDE]) == 0
    for name in (EYES, WIDE):
        assert extract(other(home), data, "--workers", "0", perceptors=[name]) == 0
    assert tree(home.embeddings) == tree(other(home).embeddings)
    assert len(list(home.embeddings.glob("small/wide/image/commits/*"))) == 20
    assert len(list(home.embeddings.glob("small/eyes/image/commits/*"))) == 10
    capsys.readouterr()
    open_store(store_folder(home, "small", "wide", "image")).forget(5)
    open_store(store_folder(home, "small", "eyes", "image")).forget(7)
    assert extract(home, data, perceptors=[EYES, WIDE]) == 0
    assert "small/eyes/image: 20 items, 1 of 10 shards" in (said := capsys.readouterr().err)
    assert "small/wide/image: 20 items, 1 of 20 shards" in said
    assert "small/wide/audio: 20 items, 0 of 20 shards" in said
    assert tree(home.embeddings) == tree(other(home).embeddings)


def test_a_source_is_decoded_once_for_all_perceptors(home: Home, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = media.opened
    monkeypatch.setattr(media, "opened", lambda source, what: opened.append(str(source)) or real(source, what))  # type: ignore[func-returns-value]
    assert extract(home, data, "--modality", "image", "--workers", "0", perceptors=[EYES, WIDE]) == 0
    assert len(opened) == 40 and len(set(opened)) == 40


def test_a_perceptor_may_change_what_it_gets(tmp_path: Path) -> None:
    from mgx.extract.decode.remembered import remembered, remembering

    calls = []

    @remembered
    def decode(source: str, at: Sequence[float] = ()) -> np.ndarray:
        calls.append(source)
        return np.zeros(3)

    with remembering():
        for _ in range(3):
            decode("a", at=[0.5]).fill(7)
        assert not decode("a", at=[0.5]).any()
        decode("a", at=[0.7])
    assert calls == ["a", "a"]
    decode("a", at=[0.5])
    assert calls == ["a", "a", "a"]


def test_two_perceptors_of_one_name_are_refused(home: Home, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert extract(home, data, perceptors=[EYES, "eyes:Eyes"]) == 2
    assert "one name" in capsys.readouterr().err
    assert not home.embeddings.exists()


# ---- batches


class Counting:
    """Encodes views as their first number, and remembers how many it got at once."""

    name = "counting"

    def __init__(self, most: int = 1000) -> None:
        self.sizes: list[int] = []
        self.most = most

    def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
        self.sizes.append(len(views))
        if len(views) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return np.array([[len(v) if isinstance(v, str) else v.flat[0]] for v in views], np.float32)


def means(perceptor: Any, views: Sequence[tuple[int, Any]], items: int, batch: int, ahead: int = 0) -> np.ndarray:
    encoder = Encoder(perceptor, "any", "a/b/c", 1, batch, ahead)
    shard = Vectors(encoder, items)
    try:
        for item, view in views:
            shard.add(item, view)
        return shard.means()[:, 0]
    finally:
        encoder.close()


def test_a_batch_holds_so_many_views_and_fewer_of_large_ones() -> None:
    small = [(n, np.full(10, n, np.float32)) for n in range(10)]
    perceptor = Counting()
    np.testing.assert_array_equal(means(perceptor, small, 10, 4), np.arange(10))
    assert perceptor.sizes == [4, 4, 2]
    large = np.zeros(NUMBERS * 3 // 2, np.float32)
    perceptor = Counting()
    means(perceptor, [(0, large), (1, large), (2, large), *small[3:]], 10, 4)
    assert perceptor.sizes == [2, 2, 4, 2], "beside a large one all are padded to it"
    perceptor = Counting()
    means(perceptor, [(0, np.zeros(NUMBERS * 9, np.float32)), *small[1:]], 10, 4)
    assert perceptor.sizes == [1, 4, 4, 1], "one that is larger than any batch goes alone"


def test_long_texts_count_by_their_length() -> None:
    """1,024 characters count as a picture, and all texts of a batch as its longest, to which they are padded."""
    words = [f"{n:04}" for n in range(6)]
    perceptor = Counting()
    means(perceptor, list(enumerate([*words, "x" * 1024, "y" * 1024])), 8, 4)
    assert perceptor.sizes == [4, 4]
    perceptor = Counting()
    means(perceptor, list(enumerate([*words[:3], "x" * 2048, *words[3:]])), 7, 4)
    assert perceptor.sizes == [3, 2, 2]


def test_equal_texts_of_a_shard_are_encoded_once() -> None:
    words = ["a", "bb", "a", "ccc", "a", "bb", "dddd"]
    perceptor = Counting()
    got = means(perceptor, [(n, word) for n, word in enumerate(words)], 7, 3)
    np.testing.assert_array_equal(got, [len(word) for word in words])
    assert perceptor.sizes == [3, 1]
    views = [(0, "a"), (0, "ccc"), (1, "a"), (1, "bb"), (1, "a")]
    np.testing.assert_allclose(means(Counting(), views, 2, 2), [2, 4 / 3], rtol=1e-6)


class Together(Counting):
    """Encodes a batch only when another is there beside it, but for the first."""

    def __init__(self) -> None:
        super().__init__()
        self.both = threading.Barrier(2, timeout=30)

    def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
        vectors = super().encode(modality, views)
        if len(self.sizes) > 1:
            self.both.wait()
        return vectors


def test_a_gpu_gets_the_next_batch_while_it_computes_one() -> None:
    views = [(n, np.full(10, n, np.float32)) for n in range(20)]
    views[7:9] = [(7, "equal"), (8, "equal")]
    expected = means(Counting(), views, 20, 4)
    perceptor = Together()
    np.testing.assert_array_equal(means(perceptor, views, 20, 4, ahead=2), expected)
    assert sorted(perceptor.sizes) == [3, 4, 4, 4, 4], "the first was encoded alone, the others two at a time"


def test_an_error_of_a_batch_under_way_is_raised_where_batches_are_gathered() -> None:
    class Failing(Counting):
        def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
            if views[0].flat[0] == 4:
                raise RuntimeError("the device is gone")
            return super().encode(modality, views)

    views = [(n, np.full(10, n, np.float32)) for n in range(20)]
    with pytest.raises(RuntimeError, match="the device is gone"):
        means(Failing(), views, 20, 4, ahead=2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("encode")]


def test_what_fitted_into_memory_is_remembered_for_the_next_pass() -> None:
    fitted: dict[tuple[str, str], int] = {}
    for name, expected in (("a/b/image", [8, 4, 2, 2, 2, 2]), ("a/c/image", [2, 2, 2, 2])):
        perceptor = Counting(most=3)
        Encoder(perceptor, "image", name, 1, 8, 0, fitted)([np.zeros(1)] * 8)  # type: ignore[arg-type]
        assert perceptor.sizes == expected


def test_seconds_of_batches_that_overlap_count_once() -> None:
    spent = []

    class Slow(Together):
        def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
            begun = time.perf_counter()
            vectors = super().encode(modality, views)
            time.sleep(0.1)
            spent.append(time.perf_counter() - begun)
            return vectors

    encoder = Encoder(Slow(), "any", "a/b/c", 1, 1, 2)  # type: ignore[arg-type]
    under_way = [encoder.start([np.zeros(1)]) for _ in range(5)]
    assert [len(started.result()) for started in under_way] == [1] * 5
    encoder.close()
    assert encoder.calls == 5 and 0.3 <= encoder.seconds <= sum(spent) - 0.19, "one alone, then two and two"


def test_the_batch_does_not_change_the_vectors(
    home: Home, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").mkdir()
    torch.save(checkpoint(TINY), tmp_path / "weights" / ImageBind.file)
    monkeypatch.setattr(imagebind, "require_checkpoint", lambda name, home: tmp_path / "weights")
    monkeypatch.setattr(imagebind, "checkpoint_digest", lambda name, home: "tiny")
    monkeypatch.setattr(network, "HUGE", TINY)
    monkeypatch.setattr(ImageBind, "width", TINY["vision"].out)
    vectors = []
    for home_of, batch in ((home, "16"), (other(home), "1")):
        assert extract(home_of, data, "--batch", batch, perceptors=["imagebind"]) == 0
        vectors.append(
            {m: open_store(store_folder(home_of, "small", "imagebind", m)) for m in ("image", "text", "audio")}
        )
    for modality, one in vectors[0].items():
        assert one.plan.key == vectors[1][modality].plan.key
        values = one.read().values
        assert np.ptp(values, 0).max() > 1e-3
        np.testing.assert_allclose(vectors[1][modality].read().values, values, rtol=0, atol=1e-5)


def test_memory_that_runs_out_halves_what_is_encoded_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    views = [(n, np.full(10, n, np.float32)) for n in range(20)]
    perceptor = Counting(most=3)
    np.testing.assert_array_equal(means(perceptor, views, 20, 8), np.arange(20))
    assert perceptor.sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    assert capsys.readouterr().err == "a/b/c: out of memory with 8 views at once; going on with fewer.\n"


ENDINGS: dict[str, Callable[[], Exception]] = {
    "a GPU": lambda: torch.OutOfMemoryError("CUDA out of memory."),
    "torch": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    "numpy": lambda: MemoryError(),
    "CUDA": lambda: torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
}


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_cuda_and_its_libraries_say_otherwise_that_memory_ran_out(words: str) -> None:
    assert batches.out_of_memory(RuntimeError(words))
    assert not batches.out_of_memory(RuntimeError(words.replace("ALLOC", "EXECUTION").replace("out of memory", "x")))


@pytest.mark.parametrize("where", ENDINGS)
def test_no_memory_for_one_view_ends_with_a_line_and_finished_shards(
    where: str, home: Home, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from eyes import Eyes

    real, done = Eyes.encode, []

    def encode(self: Any, modality: str, views: Sequence[Any]) -> np.ndarray:
        if len(done) == 3:
            raise ENDINGS[where]()
        done.append(len(views))
        return real(self, modality, views)

    monkeypatch.setattr(Eyes, "encode", encode)
    assert extract(home, data, "--modality", "image") == 1
    said = capsys.readouterr().err
    assert "mgx: small/eyes/image: there is not memory enough to encode one view." in said
    assert "Traceback" not in said and said.count("going on with fewer") == 1
    assert open_store(store_folder(home, "small", "eyes", "image")).missing() == list(range(3, 10))


def test_other_errors_of_an_encoder_are_not_taken_for_lack_of_memory() -> None:
    class Broken(Counting):
        def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        means(Broken(), [(0, np.zeros(3))], 1, 4)
    with pytest.raises(batches.BadEmbedding, match=r"shape \(1, 1\), expected \(1, 2\)"):
        Encoder(Counting(), "any", "a/b/c", 2, 4)([np.zeros(3)])  # type: ignore[arg-type]


# ---- what is said


def test_what_is_to_come_is_said_before_a_long_pass(capsys: pytest.CaptureFixture[str]) -> None:
    encoder = Encoder(Counting(), "image", "a/b/c", 1, 4)  # type: ignore[arg-type]
    decode: Any = SimpleNamespace(seconds=0.25, busy=2)
    watch = Pace("nyudv2 image", "cuda:0", [encoder], decode, 40_008)
    for _ in range(4):
        watch.advance()
    encoder.calls, encoder.seconds = 1, 100.0  # it loads its weights
    for _ in range(4):
        watch.advance()
    assert capsys.readouterr().err == ""
    encoder.calls, encoder.seconds = 2, 102.0
    watch.advance()
    watch.advance()
    assert capsys.readouterr().err == (
        "nyudv2 image: about 5.6 hours to come on cuda:0 (decode 8 items/s with 2 workers, encode 2 items/s)\n"
    )
    assert (pace.spoken(720), pace.spoken(5000), pace.spoken(11520)) == ("12 minutes", "83 minutes", "3.2 hours")


def test_little_to_come_is_not_worth_a_line(
    home: Home, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert extract(home, data) == 0
    assert "to come" not in capsys.readouterr().err
    monkeypatch.setattr(pace, "WORTH_SAYING", 0.0)
    assert extract(other(home), data) == 0
    said = capsys.readouterr().err
    assert re.search(
        r"small image: about 0 minutes to come on cpu \(decode .+ items/s with 0 workers, encode .+\)", said
    )
    assert "small image: 20 to do" in said, "progress counts items"


def test_dry_run_says_how_many_items_are_to_do(home: Home, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert extract(home, data) == 0
    open_store(store_folder(home, "small", "eyes", "text")).forget(4)
    capsys.readouterr()
    assert extract(home, data, "--dry-run", perceptors=[EYES, WIDE]) == 0
    said = capsys.readouterr().out.splitlines()
    assert any(line.startswith("eyes text: 20 items, 2 to do (1 of 10 shards)") for line in said)
    assert any(line.startswith("wide text: 20 items, 20 to do (10 of 10 shards)") for line in said)


@pytest.mark.slow
def test_the_benchmark_prints_every_ratio() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "extract.py"
    ran = subprocess.run(
        [sys.executable, script, "--quick", "--modality", "audio"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = {
        line.split("|")[1].strip(): line.split("|")[2:-1] for line in ran.stdout.splitlines() if line.startswith("| ")
    }
    assert len(rows["audio"]) == 6 and all(float(cell) > 0 for cell in rows["audio"])
    for items in ("8", "16"):
        cost, memory, worker = map(float, rows[items])
        assert cost > 0 and memory > 0 and worker >= 0  # so few items may need no worker
