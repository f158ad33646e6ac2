"""`make audit`, with a stand-in for the tool that it installs: what it makes of what that says."""

import json
import stat
import sys
from pathlib import Path

import pytest

from tests.conftest import program

audit = program("audit")
TOOL = """#!{python}
import json, pathlib, sys
name = pathlib.Path(sys.argv[sys.argv.index("--requirement") + 1]).name
found = json.loads({found!r})[name]
if found is None:
    sys.exit("the database cannot be reached")
print(json.dumps({{"dependencies": [{{"name": "p", "version": "1", "vulns": [{{"id": own}} for own in found]}}]}}))
"""


@pytest.mark.parametrize(
    ("control", "pins", "explained", "code", "says"),
    [
        (["A"], [], {}, 0, "0 advisories, 0 of them not explained"),
        (["A"], ["B", "C"], {"B": "never called"}, 1, "p 1: B: never called\np 1: C: NOT EXPLAINED\n"),
        (["A"], ["B"], {"B": "never called"}, 0, "1 advisories, 0 of them not explained"),
        ([], [], {}, 3, "unmeasured: the tool finds nothing wrong with jinja2==2.4.1"),
        (None, [], {}, 3, "unmeasured: the database cannot be reached"),
        (["A"], None, {}, 3, "unmeasured: the database cannot be reached"),
    ],
)
def test_what_is_made_of_advisories(control, pins, explained, code, says, tmp_path, monkeypatch, capsys):
    tool = tmp_path / "python"
    found = json.dumps({"control.txt": control, "constraints.txt": pins})
    tool.write_text(TOOL.format(python=sys.executable, found=found))
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(audit, "tool", lambda folder: Path(tool))
    monkeypatch.setattr(audit, "EXPLAINED", explained)
    assert audit.main() == code
    assert says in capsys.readouterr().out
