"""Strange bytes for every format that mgx reads, and all that ever broke one: see benchmarks/fuzz.py."""

import random
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import program

ROOT = Path(__file__).parents[1]
CORPUS = sorted((ROOT / "tests" / "corpus").glob("*/*"))

fuzz = program("fuzz")

# For all of the corpus one process, as memory is limited for good. Its peak is Linux's own figure: what `getrusage`
# tells begins with the memory of the process that started it.
AGAIN = """
import re, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
sys.path.insert(0, sys.argv[1])
import fuzz
for path in map(Path, sys.argv[2:]):
    fuzz.try_one(path.parent.name, path.read_bytes())
status = Path("/proc/self/status")
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1]) if status.exists() else 0
assert peak < 1.5 * 2**20, f"{peak} kB of memory, more than 1.5 GB"
"""


@pytest.mark.slow
def test_what_broke_once_breaks_no_more():
    assert len(CORPUS) >= 5 and {path.parent.name for path in CORPUS} <= set(fuzz.FORMATS)
    ran = subprocess.run(
        [sys.executable, "-c", AGAIN, str(ROOT / "benchmarks"), *map(str, CORPUS)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr


# Every file of the rooms that parses bytes, and the formats by which it is tried, or why it is not.
OURS = "what mgx itself wrote into the home directory"
SHIPPED = "what ships with mgx"
UNTRIED = "foreign, and not tried: tests of its own say what becomes of wrong files"
PARSES = re.compile(
    r"json\.loads?\(|tomllib\.load|read_table|ParquetFile|h5py\.File|np\.load|torch\.load|ZipFile\(|tarfile\.open"
    r"|load_file|safe_open|Image\.open|av\.open|soundfile\.|csv\.(reader|DictReader)|zarr\.open|literal_eval"
)
PARSERS: dict[str, set[str] | str] = {
    "extract/decode/archives.py": {"archive"},
    "extract/decode/clouds.py": {"cloud_npy", "cloud_pt"},
    "extract/decode/media.py": {"jpeg", "png", "depth_png", "npy", "wav", "mp4"},
    "extract/decode/vector_files.py": {"vectors_h5", "vectors_npz", "vectors_parquet"},
    "extract/download/members.py": {"zip", "tar", "tar_gz"},
    "extract/exchange/listing.py": {"listing"},
    "extract/exchange/modalbed_caches.py": {"modalbed"},
    "extract/readers/table.py": {"table"},
    "extract/weights/tensors.py": {"checkpoint"},
    "extract/weights/pretrained.py": {"hub_config"},
    "select/domainbed.py": {"domainbed"},
    "select/records_file.py": {"packed_records"},
    "shared/jobs.py": {"jobs"},
    "shared/manifest.py": {"manifest"},
    "shared/pack_install.py": {"pack", "packed_plan", "packed_items", "packed_array"},
    "shared/records.py": {"record", "records", "sweep"},
    "shared/status_cli.py": {"log"},
    "shared/plan.py": {"plan"},
    "shared/store.py": {"commit"},
    "extract/decode/container.py": {"mp4", "wav"},
    "extract/decode/hdf5.py": {"vectors_h5"},
    "extract/decode/modalbed_media.py": "the same libraries as media.py, behind the same `opened`",
    "extract/strong/inputs.py": "the same libraries as media.py, behind the same `opened`",
    "extract/readers/msrvtt.py": {"msrvtt"},
    "extract/readers/vggsound.py": {"vggsound"},
    "extract/perceptors/languagebind.py": UNTRIED,
    "extract/perceptors/unibind.py": OURS,
    "extract/strong/pretrained.py": UNTRIED,
    "extract/weights/canaries.py": SHIPPED,
    "extract/litebind/backbones.py": "weights that come in packages",
    "extract/litebind/shipped.py": SHIPPED,
    "extract/litebind/heads.py": OURS,
    "extract/strong/training.py": OURS,
    "extract/download/licence.py": OURS,
    "extract/download/sources.py": OURS,
    "extract/weights/checkpoints.py": OURS,
    "extract/weights/hub_models.py": OURS,
    "learn/train.py": OURS,
    "select/compare_sets.py": "values of the command line, as csv quotes them",
    "select/item_resampling.py": OURS,
    "select/published.py": SHIPPED,
    "shared/download.py": OURS,
    "shared/pack_write.py": "an example for readers of packs, which nothing runs",
}


def test_every_parser_is_tried():
    """A file that begins to parse bytes comes into this table, with its formats or the reason why there are none."""
    rooms = [path for room in ("extract", "learn", "select", "shared") for path in (ROOT / room).rglob("*.py")]
    parsing = {str(path.relative_to(ROOT)) for path in rooms if PARSES.search(path.read_text())}
    assert parsing == {*PARSERS}
    assert {name for own in PARSERS.values() if isinstance(own, set) for name in own} == {*fuzz.FORMATS}


@pytest.mark.parametrize("name", fuzz.FORMATS)
def test_the_sound_file_is_read(name, tmp_path):
    """Else nothing but the first check would ever be tried."""
    fuzz.FORMATS[name](fuzz.seed_of(name), tmp_path)


@pytest.mark.parametrize("name", fuzz.FORMATS)
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(dice=st.randoms(use_true_random=False), junk=st.one_of(st.none(), st.binary(max_size=200)))
def test_strange_bytes_are_an_error_with_a_name(name, dice, junk):
    fuzz.try_one(name, fuzz.changed(fuzz.seed_of(name), dice) if junk is None else junk)


@pytest.mark.slow
@pytest.mark.parametrize("name", fuzz.FORMATS)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_many_strange_bytes_are_an_error_with_a_name(name, seed):
    fuzz.try_one(name, fuzz.changed(fuzz.seed_of(name), random.Random(seed)))


@pytest.mark.parametrize("harm", ["a crash", "a file outside"])
def test_the_program_finds_what_is_planted(harm, monkeypatch):
    def planted(content: bytes, folder: Path) -> None:
        if harm == "a crash":
            raise ZeroDivisionError
        (folder.parent / "escaped").touch()

    monkeypatch.setitem(fuzz.FORMATS, "log", planted)
    with pytest.raises((ZeroDivisionError, AssertionError)):
        fuzz.try_one("log", b"")


# Two bytes, each of which leads a branch further: random changes hardly ever make them out of a sound file.
MAGIC = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import atheris, fuzz

@atheris.instrument_func
def planted(content, folder):
    if content[:1] == b"m":
        if content[1:2] == b"g":
            raise ZeroDivisionError

fuzz.FORMATS["log"] = planted
fuzz.guided("log", 60, Path(sys.argv[2]), 0)
"""


@pytest.mark.slow
def test_the_guided_search_finds_what_is_planted_deep(tmp_path):
    pytest.importorskip("atheris", reason="no wheels of atheris for this machine")
    command = [sys.executable, "-c", MAGIC, str(ROOT / "benchmarks"), str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "ZeroDivisionError" in ran.stdout
    assert [path.read_bytes()[:2] for path in tmp_path.glob("crash-*")] == [b"mg"]


def zeros_npz(path: Path) -> None:
    """Packed better than by deflate."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive,
        archive.open("id.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(member, {"shape": (2**20, 4), "fortran_order": False, "descr": "<f4"})
        for _ in range(16):
            member.write(bytes(2**20))


def promised_npz(path: Path) -> None:
    """An array's header alone."""
    with zipfile.ZipFile(path, "w") as archive, archive.open("id.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"shape": (2**40, 4), "fortran_order": False, "descr": "<f4"})


def repeated_parquet(path: Path) -> None:
    """One name, and how often."""
    often = pyarrow.DictionaryArray.from_arrays(np.zeros(500_000, np.int32), ["name" * 10])
    parquet.write_table(pyarrow.table({"id": often}), path)


def repeated_numbers(path: Path) -> None:
    parquet.write_table(pyarrow.table({"id": np.zeros(10_000_000)}), path)


def promised_texts(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("id", (2**28,), h5py.string_dtype(), chunks=(2**20,))


FOLDED = [
    (zeros_npz, ".npz"),
    (promised_npz, ".npz"),
    (repeated_parquet, ".parquet"),
    (repeated_numbers, ".parquet"),
    (promised_texts, ".h5"),
]


@pytest.mark.parametrize(("make", "suffix"), FOLDED, ids=lambda one: getattr(one, "__name__", ""))
def test_a_small_file_unfolds_to_no_gigabytes(make, suffix, tmp_path, monkeypatch):
    """It is refused by what it promises, before that is read."""
    from mgx.extract.decode import vector_files
    from mgx.shared.errors import BadManifest

    monkeypatch.setattr(vector_files, "LEAST", 2**23)
    make(path := tmp_path / f"x{suffix}")
    assert path.stat().st_size < 100_000
    with pytest.raises(BadManifest, match=r"x\.\w+: cannot be read: .*promises"):
        vector_files.read_arrays(path)


def test_texts_of_an_h5_file_have_so_much_memory(tmp_path, monkeypatch):
    """Whoever tries first has a bound, and does not look for modules where the file lies."""
    from mgx.extract.decode import hdf5
    from mgx.extract.decode.vector_files import read_arrays
    from mgx.shared.errors import BadManifest

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["id"] = ["a" * 2000] * 5000
    monkeypatch.chdir(tmp_path)
    for name in ("h5py", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(1)")
    assert read_arrays(Path("x.h5"))["id"][4999] == b"a" * 2000
    monkeypatch.setattr(hdf5, "ROOM", 0)
    monkeypatch.setattr(hdf5, "GROWTH", 0)
    with pytest.raises(BadManifest, match="id: it is damaged, or promises more than"):
        read_arrays(Path("x.h5"))


@pytest.mark.parametrize("how", ["external link", "soft link", "external storage", "virtual", "a promise"])
def test_an_h5_file_gives_nothing_but_its_own(how, tmp_path):
    """Neither as vectors nor as a depth map may it show another file of this machine, or fill the memory."""
    from mgx.extract.decode.media import depth
    from mgx.extract.decode.vector_files import read_arrays
    from mgx.shared.errors import BadItem, BadManifest
    from mgx.shared.item import Array

    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["depth"] = np.full((4, 4), 7.0)
    (tmp_path / "secret.bin").write_bytes(bytes(range(128)))
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        if how == "external link":
            file["depth"] = h5py.ExternalLink("secret.h5", "depth")
        elif how == "soft link":
            file["depth"] = h5py.SoftLink("/elsewhere")
        elif how == "external storage":
            file.create_dataset("depth", (4, 4), "f8", external=[(str(tmp_path / "secret.bin"), 0, 128)])
        elif how == "virtual":
            layout = h5py.VirtualLayout((4, 4), "f8")
            layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "depth", (4, 4))
            file.create_virtual_dataset("depth", layout)
        else:
            file.create_dataset("depth", (2**20, 2**20), "f8", chunks=(64, 64))
    with pytest.raises(BadManifest, match=r"link|another file|promises"):
        read_arrays(path)
    with pytest.raises(BadItem, match=r"link|another file|promises"):
        depth(Array(path, "depth"), "m")
