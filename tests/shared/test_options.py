"""The options of all commands: one spelling and one explanation for one thing, in lines that fit a terminal."""

from collections.abc import Iterator

import click
import pytest

from mgx.shared.cli import COMMANDS, EXPORTS, mgx, run
from mgx.shared.home import Home


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group, info_name=name)
    for own in group.list_commands(context):
        command = group.get_command(context, own)
        assert command is not None
        yield f"{name} {own}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {own}")


ALL = dict(commands(mgx, "mgx"))
OPTIONS = [(name, p) for name, command in ALL.items() for p in command.params if isinstance(p, click.Option)]


def test_what_may_be_given_several_times_says_so_in_one_way():
    several = {f"{name} {p.opts[0]}": p.help for name, p in OPTIONS if p.multiple}
    assert len(several) > 15
    assert [option for option, told in several.items() if told is None or "repeatable" not in told] == []


def test_one_option_has_one_metavar():
    spelled: dict[str, set[str | None]] = {}
    for _, p in OPTIONS:
        if p.metavar is not None:
            spelled.setdefault(p.opts[-1], set()).add(p.metavar)
    assert spelled.pop("--dataset") == {"NAME", "NAME|PATH"}, "extract takes the path of a manifest as well"
    assert spelled.pop("--perceptor") == spelled.pop("--modality") == spelled.pop("--device") == {"NAME"}
    assert spelled.pop("--output") == {"FILE"}
    nameless = [f"{n} {p.opts}" for n, p in OPTIONS if p.type is click.STRING and not p.metavar and not p.is_flag]
    assert [one for one in nameless if "pattern" not in one] == []


def test_words_are_those_of_the_glossary():
    words = [(n, p.help or "") for n, p in OPTIONS] + [(n, c.help or "") for n, c in ALL.items()]
    assert [name for name, told in words if " dataset " in told.lower() or "[repeats]" in told] == []
    assert {"--out", "--force"} & {o for _, p in OPTIONS for o in p.opts} == set()
    assert "mgx store list" in ALL and "mgx store ls" not in ALL


def test_a_command_s_line_in_a_list_is_whole():
    """Of groups click takes the first sentence; those of the front door stand in its own list."""
    widest = 80 - 6 - max(len(name.split()[-1]) for name in ALL)
    lines = {name: command.get_short_help_str(widest) for name, command in ALL.items() if len(name.split()) > 2}
    assert len(lines) > 15 and [name for name, line in lines.items() if line.endswith("...")] == []
    assert max(len(line) for _, line in (*COMMANDS.values(), *EXPORTS.values())) <= widest


@pytest.mark.parametrize("setting", ["middling", "Weak"])
def test_replay_refuses_a_setting_that_there_is_not(home: Home, setting, capsys):
    assert run(["--home", str(home.root), "replay", "a/b/c/d", "--setting", setting]) == 2
    assert "is not one of 'weak', 'strong'" in capsys.readouterr().err
