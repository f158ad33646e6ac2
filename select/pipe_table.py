"""Markdown's pipe tables, from texts of any kind."""

from collections.abc import Sequence

SIGNS = frozenset("\\`*_|[]~")


def pipe_table(lines: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """A head and rows; columns are flushed right but those in `left`."""
    ruled = [f"| {' | '.join(map(escape_markdown, line))} |" for line in lines]
    ruled.insert(1, "|" + "".join(":--|" if n in left else "--:|" for n in range(len(lines[0]))))
    return "\n".join(ruled)


def escape_markdown(text: str) -> str:
    """Text that Markdown and the HTML inside it leave alone."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return "".join(f"\\{c}" if c in SIGNS else c for c in plain)
