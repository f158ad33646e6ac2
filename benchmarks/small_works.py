"""Three commands of mgx on data of a second's work, each in a process of its own: what faults strike.

Processes are forks of this one, which has imported everything: hundreds of them start in no time.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from faulty_files import Layer, kill_me

from mgx.shared.cli import run
from mgx.shared.errors import MgxError
from mgx.shared.files import file_digest
from mgx.shared.home import Home, find_home
from mgx.shared.records import Refused, each_record, read_sweeps
from mgx.shared.store import open_store, store_folders

ITEMS, CLASSES = 16, ("north", "south")
PATIENCE = 120.0  # seconds that a command may take at all


class Lost(Exception):
    """What a fault left behind that the same command did not mend."""


# ---- what works


class Eyes:
    """A perceptor that sees a picture's mean colours and a text's letters. `trouble` is what befalls a worker."""

    name, kind, modalities, width = "eyes", "binding", ("image", "text"), 8
    trouble: Callable[[], None] | None = None

    def __init__(self, home: Home, device: str) -> None: ...

    def ready(self, modalities: Sequence[str] = ()) -> None: ...

    def fingerprint(self) -> str:
        return "eyes"

    def recipe(self, modality: str, settings: Any) -> Mapping[str, Any]:
        return {}

    def prepare(self, modality: str, settings: Any, source: Any) -> Any:
        from mgx.extract.decode import media

        if Eyes.trouble is not None:
            Eyes.trouble()
        return media.image(source) if modality == "image" else media.text(source)

    def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
        letters = [[v.count(c) for c in "abcdefgh"] if isinstance(v, str) else [*v.mean((0, 1)), 1] * 2 for v in views]
        return np.array(letters, np.float32) + 1


PERCEPTOR = Eyes
NO_RESULT = (".jsonl", ".damaged")  # records are compared one by one; what was moved aside is kept for people


def make_media(root: Path) -> None:
    """A data set of pictures and texts."""
    from PIL import Image

    draw = np.random.default_rng(0)
    lines = ["id,label,text"]
    (root / "image").mkdir(parents=True)
    for n in range(ITEMS):
        Image.fromarray(draw.integers(0, 255, (32, 32, 3), np.uint8)).save(root / f"image/i{n:02}.png")
        lines.append(f"i{n:02},{CLASSES[n % 2]},{''.join(draw.choice(list('abcdefgh'), 9))}")
    (root / "items.csv").write_text("\n".join(lines) + "\n")
    manifest = ["schema = 1", "[dataset]", 'name = "small"', "[items]", 'reader = "table"', "[label]"]
    manifest += [f"classes = {json.dumps(CLASSES)}", "[modalities.image]", 'kind = "image"', 'path = "image/{id}.png"']
    (root / "dataset.toml").write_text("\n".join([*manifest, "[modalities.text]", 'kind = "text"', 'column = "text"']))


def make_vectors(root: Path) -> None:
    """A file of ready-made vectors of three modalities."""
    draw = np.random.default_rng(0)
    labels = np.arange(48) % 2
    centres = draw.normal(size=(2, 16))
    arrays = {m: (centres[labels] + 0.5 * draw.normal(size=(48, 16))).astype(np.float32) for m in ("a", "b", "c")}
    ids, groups = ([f"{letter}{n // size:02}" for n in range(48)] for letter, size in (("i", 1), ("g", 2)))
    np.savez(root / "own.npz", id=ids, group=groups, label=np.array(CLASSES)[labels], **arrays)


def make_networks(root: Path) -> None:
    """Checkpoints of tiny networks, for those that strong perceptors start from."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer, ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    ViTForImageClassification(ViTConfig(**sizes, intermediate_size=8, patch_size=112)).save_pretrained(
        root / "vit_base"
    )
    (root / "vit_base/preprocessor_config.json").write_text("{}")
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    T5ForConditionalGeneration(T5Config(vocab_size=16, **sizes)).save_pretrained(root / "t5_small")
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), *((letter, -2.0) for letter in "abcdefgh")]
    T5Tokenizer(vocab=pieces, extra_ids=0).save_pretrained(root / "t5_small")
    (root / "t5_small/spiece.model").write_bytes(b"not read")


def shrink() -> None:
    """Everything small and often, and workers that are copies of this process: they start in milliseconds."""
    from multiprocessing import get_context

    import torch

    from mgx.extract.job import decoding
    from mgx.extract.perceptors.strong import StrongPerceptor
    from mgx.extract.strong import training
    from mgx.extract.strong.selfsupervised import Recipe
    from mgx.learn import prepare, sweep, train

    def start_workers(workers: int, openings: Any) -> decoding.Workers:
        return decoding.Workers(workers, get_context("fork"), openings)

    torch.set_num_threads(1)
    decoding.WORTH, decoding.HANDING, decoding.start_workers = 0.0, 0.0, start_workers
    StrongPerceptor.recipe_of_all = Recipe(lr=1e-2, epochs=4, batch=8)
    training.SAVE_EVERY, training.EVERY = 2, 1
    prepare.STACK, sweep.PATIENCE, train.EVERY, train.SAVE_EVERY = 2, 0.05, 3, 0.0


@dataclass(frozen=True)
class Work:
    """A command, and the home directory that it begins with; `whole` is what becomes of it, undisturbed."""

    name: str
    args: tuple[str, ...]
    begin: Path
    whole: Mapping[str, str]
    seconds: float = 0.0
    operations: int = 0

    @contextmanager
    def home(self, folder: Path) -> Iterator[Home]:
        """A home directory for one fault."""
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as own:
            shutil.copytree(self.begin, own, dirs_exist_ok=True)
            yield find_home(own)

    def require_whole(self, home: Home, code: int) -> None:
        """Lost if the last command failed, or its result differs from the undisturbed one."""
        if code:
            raise Lost(f"exit code {code}: {said(home)[-1500:]}")
        found = result(home)
        if different := [name for name in {**self.whole, **found} if found.get(name) != self.whole.get(name)]:
            raise Lost(f"{len(different)} of {len(self.whole)} differ: {sorted(different)[:5]}. {said(home)[-500:]}")

    def require_sound(self, home: Home, harmed: Collection[Path] = ()) -> None:
        """Lost if readers would take what is not so, or if a file is half there that the fault itself did not harm.

        This is before the command is given again: half of the work is done, and all that can be read of it is right.
        """
        found, refused = read(home)
        if wrong := [name for name, text in found.items() if self.whole.get(name) != text]:
            raise Lost(f"readers take what is wrong: {wrong[:5]}")
        if unnamed := [why for why in refused if not any(str(path) in why for path in harmed)]:
            raise Lost(f"half there, or refused without the name of what is damaged: {unnamed[:5]}")


def result(home: Home) -> dict[str, str]:
    """All that commands made: files of stores and trained perceptors by their bytes, run records by their text."""
    places = (home.embeddings, home.checkpoints / "strong", home.runs)
    files = [path for place in places for path in place.rglob("*") if path.is_file() and ".locks" not in path.parts]
    found = {str(path.relative_to(home.root)): file_digest(path) for path in files if path.suffix not in NO_RESULT}
    records = each_record(home, (), (), Refused())
    return found | {f"run {record.run.key}": record.to_json() for record in records}


def read(home: Home) -> tuple[dict[str, str], list[str]]:
    """What readers get of a home directory, under the names of `result`, and what they refuse, with the reason."""
    if code := end_of(fork(home, lambda: _read(home)), home):
        raise Lost(f"a reader fails with exit code {code}: {said(home)[-1500:]}")
    found, refused = json.loads((home.root / "read").read_text())
    return found, refused


def _read(home: Home) -> int:
    """The same, in a process of its own, for Zarr has threads."""
    refused = Refused()
    found = {f"run {record.run.key}": record.to_json() for record in each_record(home, (), (), refused)}
    read_sweeps(home, refused)
    for folder in store_folders(home):
        try:
            store = open_store(folder)
            refused.reasons += store.flaws()
        except MgxError as error:
            refused.reasons.append(str(error))
            continue
        for shard in sorted({*range(store.plan.shards)} - {*store.missing()}):
            try:
                values, _ = store.read_shard(shard)
            except MgxError as error:
                refused.reasons.append(str(error))
            else:
                chunk = folder / f"vectors/c/{shard}/0"
                found[str(chunk.relative_to(home.root))] = hashlib.sha256(values.tobytes()).hexdigest()
    for path in (home.checkpoints / "strong").rglob("*.safetensors"):
        if not path.name.startswith("."):
            found[str(path.relative_to(home.root))] = file_digest(path)
    (home.root / "read").write_text(json.dumps([found, refused.reasons]))
    return 0


# ---- processes


def start(home: Home, args: Sequence[str], before: Callable[[], Any] | None = None) -> int:
    """`mgx ARGS` in a process of its own, `before` it something else; its id."""

    def act() -> int:
        if before is not None:
            before()
        return run(["--home", str(home.root), *args])

    return fork(home, act)


def fork(home: Home, act: Callable[[], int]) -> int:
    """Do something in a copy of this process, which ends with the code that it gives; its id. What it says is kept."""
    if pid := os.fork():
        return pid
    code = 70
    try:
        os.setsid()
        for stream, name in ((sys.stdout, os.devnull), (sys.stderr, home.root / "said")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
        code = act()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def said(home: Home) -> str:
    """What the last command said."""
    return (home.root / "said").read_text(errors="replace") if (home.root / "said").exists() else ""


def end_of(pid: int, home: Home, after: float = PATIENCE) -> int:
    """The exit code; -9 if it was killed. After so many seconds it is. Lost if it hangs for good."""
    until = time.monotonic() + after
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if after == PATIENCE:
        raise Lost(f"it hangs: {said(home)[-1500:]}")
    return code


def do(home: Home, args: Sequence[str], before: Callable[[], Any] | None = None) -> int:
    return end_of(start(home, args, before), home)


def works(folder: Path, names: Collection[str]) -> dict[str, Work]:
    """Those of the three commands with their data in a folder, each done once undisturbed."""
    media = folder / "small"
    make_media(media)
    home = find_home(folder / "vectors")
    home.root.mkdir()
    make_vectors(folder)
    if do(home, ("import", "vectors", str(folder / "own.npz"))):
        raise SystemExit(said(home))
    (home.root / "said").unlink()
    (folder / "nothing").mkdir()
    if "training" in names:
        if (pid := os.fork()) == 0:
            make_networks(folder / "networks/checkpoints")
            os._exit(0)
        os.waitpid(pid, 0)
    data = ("extract", "--dataset", str(media / "dataset.toml"), "--perceptor")
    learn = ("learn", "--algo", "erm", "--hparams", "4", "--trials", "1", "--steps", "9", "--train", "a", "--test", "b")
    begun = [
        Work("extract", (*data, f"{__name__}:PERCEPTOR"), folder / "nothing", {}),
        Work("training", (*data, "strong", "--modality", "text"), folder / "networks", {}),
        Work("learn", learn, folder / "vectors", {}),
    ]
    return {work.name: undisturbed(work, folder) for work in begun if work.name in names}


def undisturbed(work: Work, folder: Path) -> Work:
    """The work with its result, how long it takes and how many operations on files."""
    with work.home(folder) as home:
        layer = Layer(home.root, -1, kill_me)

        def count() -> None:
            layer.install()
            ending = os._exit

            def tell(code: int) -> None:
                (home.root / "told").write_text(f"{layer.count} {' '.join(sys.modules)}")
                ending(code)

            os._exit = tell  # type: ignore[assignment]

        if do(home, work.args, count):
            raise SystemExit(f"{work.name} fails undisturbed: {said(home)}")
        operations, *modules = (home.root / "told").read_text().split()
        whole = result(home)
    for name in modules:  # here, so that the next processes have them
        with suppress(Exception):
            import_module(name)
    with work.home(folder) as home:
        begun = time.monotonic()
        done = replace(work, whole=whole, operations=int(operations))
        done.require_whole(home, do(home, work.args))
        return replace(done, seconds=time.monotonic() - begun)
