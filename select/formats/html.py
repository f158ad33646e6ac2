"""HTML: bare tables, to be set into a page of one's own. `mgx report` makes a whole page of them."""

from typing import IO

from mgx.select.html_page import environment, table_view
from mgx.select.overview import Overview


def write(overview: Overview, stream: IO[str]) -> None:
    """Every table with its notes; all text is escaped, and there is no style and no script."""
    template = environment().get_template("fragment.html.jinja")
    stream.write(template.render(shown=overview.shown, table_view=table_view) + "\n")
