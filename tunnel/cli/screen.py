"""What all tables of the command line have in common.

Names of peers are other people's texts: they are never read as markup.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["console", "table"]

_PIPE_WIDTH = 200  # lines are not broken for a file or a pipe


def console() -> Console:
    """Standard output, as wide as the terminal."""
    from rich.console import Console

    screen = Console(highlight=False, markup=False)
    if screen.is_terminal:
        return screen
    return Console(highlight=False, markup=False, width=_PIPE_WIDTH)


def table(columns: Iterable[str]) -> Table:
    """An empty one; what does not fit is folded, not cut off."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made
