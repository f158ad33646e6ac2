"""What no file of the project does: load a pickle, run text or a model's own files as code, ask a shell, trust a server
or an archive.

The code is read as syntax, so that a comment does no harm and an alias no good.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("extract", "learn", "select", "shared", "data_manifests", "benchmarks", "tests")
FILES = sorted(p.relative_to(ROOT) for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))

# Tests make what mgx has to refuse, or harm themselves on purpose.
EXEMPT = {
    (Path("tests/extract/test_dual_encoder.py"), "import pickle"),  # perceptors go to worker processes
    (Path("tests/extract/test_media.py"), "np.load or save with allow_pickle"),
    (Path("tests/learn/test_one_model.py"), "exec"),  # the examples of docs/learner.md
}

MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "jsonpickle"}
MODULES |= {"xml", "lxml", "telnetlib", "ftplib", "xmlrpc", "urllib.request", "torch.package"}
ERRORS = {"UnpicklingError", "PickleError"}  # may be caught
CALLS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {
    "os": {"system", "popen", "tempnam"},
    "asyncio": {"create_subprocess_shell"},
    "tarfile": {"fully_trusted_filter"},
    "torch.jit": {"load"},
    "torch.hub": {"load", "load_state_dict_from_url", "download_url_to_file"},
    "torch": {"package"},
    "urllib": {"request"},
    "tempfile": {"mktemp"},
    "ssl": {"_create_unverified_context", "CERT_NONE"},
    "pandas": {"read_pickle", "eval"},
    "pd": {"read_pickle", "eval"},
    "subprocess": {"getoutput", "getstatusoutput"},
    "shutil": {"unpack_archive"},
    "numpy.lib.format": {"read_array"},
}
UNVERIFIED = {"verify", "check_hostname"}  # where they are not True
SHELLS = {"sh", "bash", "dash", "zsh", "ksh", "cmd", "cmd.exe", "powershell"}


def forbidden(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what is wrong) of everything in a file that the project does not do."""
    names = dict(_names(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((node.lineno, what) for what in _imported(node))
        if isinstance(node, ast.Attribute | ast.Name):
            module, _, name = _full(node, names).rpartition(".")
            replaces = module == "os" and name.startswith(("exec", "spawn"))
            if name in ATTRIBUTES.get(module, ()) or replaces or name == "subprocess_shell":
                yield node.lineno, f"{module}.{name}"
        if isinstance(node, ast.List | ast.Tuple) and _is_shell(node):
            yield node.lineno, "a shell"
        if isinstance(node, ast.Assign) and _unverified(node):
            yield node.lineno, "a server that nobody verified"
        if isinstance(node, ast.Call):
            yield from ((node.lineno, what) for what in _called(node, _full(node.func, names)))
            yield from ((node.lineno, what) for what in _unpacked(node, set(names.values())))


def _names(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Name in the file -> what it was imported as."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (
                (a.asname or a.name.split(".")[0], a.name if a.asname else a.name.split(".")[0]) for a in node.names
            )
        elif isinstance(node, ast.ImportFrom):
            yield from ((a.asname or a.name, f"{node.module}.{a.name}") for a in node.names)


def _full(node: ast.AST, names: dict[str, str]) -> str:
    """`np.lib.load` as "numpy.lib.load"; "" for what is no plain name, "?" for its unknown beginning."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_full(node.value, names) or '?'}.{node.attr}"
    return ""


def _unverified(node: ast.Assign) -> bool:
    says = isinstance(node.value, ast.Constant) and node.value.value is True
    return not says and any(isinstance(own, ast.Attribute) and own.attr in UNVERIFIED for own in node.targets)


def _is_shell(words: ast.List | ast.Tuple) -> bool:
    """`["sh", "-c", ...]`: a list of arguments that is a line of a shell all the same."""
    texts = [word.value if isinstance(word, ast.Constant) else None for word in words.elts[:2]]
    first = str(texts[0]).rpartition("/")[2] if texts else ""
    return first in SHELLS and str(texts[-1]).lower() in ("-c", "-lc", "-ec", "/c", "-command")


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    for module in modules:
        harmless = isinstance(node, ast.ImportFrom) and {a.name for a in node.names} <= ERRORS
        if {module, module.split(".")[0]} & MODULES and not harmless:
            yield f"import {module}"


def _called(node: ast.Call, name: str) -> Iterator[str]:
    keywords = {k.arg: k.value for k in node.keywords}

    def says(keyword: str, value: object) -> bool:
        given = keywords.get(keyword)
        return isinstance(given, ast.Constant) and given.value is value

    first = node.args[0] if node.args else None
    if name.endswith("import_module") and isinstance(first, ast.Constant) and isinstance(first.value, str):
        yield from (f"import {first.value}" for _ in {first.value, first.value.split(".")[0]} & MODULES)
    if "trust_remote_code" in keywords and not says("trust_remote_code", False):
        yield "code that came with a model"
    if name in CALLS or name.removeprefix("builtins.") in CALLS:
        yield name
    if name == "torch.load" and not says("weights_only", True):
        yield "torch.load without weights_only=True"
    if "allow_pickle" in keywords and not says("allow_pickle", False):
        yield "np.load or save with allow_pickle"
    if name == "numpy.load" and "allow_pickle" not in keywords:
        yield "np.load that does not say allow_pickle=False"
    if "shell" in keywords and not says("shell", False):
        yield "a shell"
    if "verify" in keywords and not says("verify", True) and name.split(".")[0] in ("httpx", "httpx2", "requests"):
        yield "a server that nobody verified"


def _unpacked(node: ast.Call, modules: set[str]) -> Iterator[str]:
    """Members of archives written where they want; `extract` alone may be anything where no archives are opened."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    archives = any(module.split(".")[0] in ("tarfile", "zipfile") for module in modules)
    told = {k.arg: k.value for k in node.keywords if k.arg in ("filter", "members")}
    sifted = told.get("filter")
    trusting = isinstance(sifted, ast.Constant) and sifted.value not in ("data", "tar")
    if (name == "extractall" or (name == "extract" and archives)) and (not told or trusting):
        yield "an archive unpacked as it wants to be"


def in_text(text: str) -> list[str]:
    return [what for _, what in forbidden(ast.parse(text))]


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "from pickle import loads as l",
        "import joblib, json",
        "import xml.etree.ElementTree as tree",
        "from yaml import load",
        "import shelve",
        "import marshal",
        "eval(text)",
        "exec(text)",
        "import builtins as b\nb.eval(text)",
        "import torch\ntorch.load(path)",
        "import torch as t\nt.load(path, weights_only=False)",
        "from torch import load\nload(path)",
        "from torch import load as read\nread(path, weights_only=sure)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy\nnumpy.load(path)",
        "from numpy import load\nload(path)",
        "import subprocess\nsubprocess.run(line, shell=True)",
        "from subprocess import run as go\ngo(line, shell=perhaps)",
        "import subprocess\nsubprocess.getoutput(line)",
        "import os\nos.system(line)",
        "from os import popen\npopen(line)",
        "import os\nrun = os.system",
        "import tempfile\ntempfile.mktemp()",
        "from tempfile import mktemp\nmktemp()",
        "import httpx2\nhttpx2.get(url, verify=False)",
        "import httpx2\nwith httpx2.Client(verify=False) as client: pass",
        "import ssl\ncontext = ssl._create_unverified_context()",
        "import tarfile\ntarfile.open(path).extractall(folder)",
        "import tarfile\narchive.extract(member, folder)",
        "import shutil\nshutil.unpack_archive(path)",
        "import tarfile\ntarfile.open(path).extractall(folder, filter='fully_trusted')",
        "import tarfile\ntarfile.open(path).extractall(folder, filter=tarfile.fully_trusted_filter)",
        "import pandas as pd\npd.read_pickle(path)",
        "AutoModel.from_pretrained(folder, trust_remote_code=True)",
        "AutoModel.from_pretrained(folder, trust_remote_code=sure)",
        "import torch\ntorch.jit.load(path)",
        "from torch import jit as j\nj.load(path)",
        "import torch\ntorch.hub.load(repository, name)",
        "from torch.hub import load\nload(repository, name)",
        "import torch\ntorch.package.PackageImporter(path)",
        "from torch.package import PackageImporter",
        "import importlib\nimportlib.import_module('pickle')",
        "from importlib import import_module as bring\nbring('xml.etree')",
        "import asyncio\nasyncio.create_subprocess_shell(line)",
        "loop.subprocess_shell(protocol, line)",
        "import os\nos.execvp(program, words)",
        "from os import execlp\nexeclp(program)",
        "import os\nos.spawnvpe(mode, program, words, env)",
        "import subprocess\nsubprocess.run(['sh', '-c', line])",
        "import subprocess\nsubprocess.Popen(('/bin/bash', '-lc', line))",
        "words = ['cmd', '/c', line]",
        "import urllib.request\nurllib.request.urlopen(url)",
        "from urllib.request import urlopen\nurlopen(url)",
        "from urllib import request\nrequest.urlopen(url)",
        "import httpx2\nhttpx2.Client(verify=flag)",
        "import requests\nrequests.get(url, verify=path is None)",
        "session.verify = False",
        "context.check_hostname = False",
    ],
)
def test_the_scan_finds_what_is_planted(planted):
    assert in_text(planted)


@pytest.mark.parametrize(
    "sound",
    [
        "from pickle import UnpicklingError",
        "import torch\ntorch.load(path, weights_only=True)\nmodel.eval()",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import subprocess\nsubprocess.run([program, path], check=True)",
        "archive.extractall(folder, filter='data')",
        "judge(file, verify=False)",
        "from importlib import import_module\nimport_module(f'mgx.{room}.cli')",
        "from urllib.parse import quote\nquote(text)",
        "from_pretrained(folder, trust_remote_code=False)",
        "import os\nos.posix_spawn(program, [program, '-c', code], os.environ)",
        "words = ['sh', path]",
        "context.check_hostname = True",
        "# os.system('rm')\ntext = 'pickle.load'",
        "import re\nre.compile(text)",
    ],
)
def test_the_scan_leaves_sound_code_alone(sound):
    assert in_text(sound) == []


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_file_does_what_the_project_does_not_do(path):
    found = [
        (line, what) for line, what in forbidden(ast.parse((ROOT / path).read_text())) if (path, what) not in EXEMPT
    ]
    assert found == []


def test_every_exemption_is_needed():
    for path, what in EXEMPT:
        assert what in in_text((ROOT / path).read_text())
