"""HTML: bare tables, to be set into a page of one's own. `mgx report` makes a whole page of them."""

from typing import IO

from mgx.select.overview import Overview
from mgx.select.page import environment, table_face


def write(overview: Overview, stream: IO[str]) -> None:
    """Every table with its notes; all text is escaped, and there is no style and no script."""
    template = environment().get_template("fragment.html.jinja")
    stream.write(template.render(shown=overview.shown, table_face=table_face) + "\n")
