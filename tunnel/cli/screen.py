"""What all tables of the command line have in common.

Names of peers are other people's texts: they are never read as markup.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Row", "console", "show_table"]

_PIPE_WIDTH: Final = 200  # lines are not broken for a file or a pipe
_PRETTY_MOST: Final = 300  # rows; rich takes half a millisecond for each
_COLUMN_MOST: Final = 60  # characters that all rows are filled up to
_GAP: Final = "   "

Row = tuple[Sequence[str], str | None]  # its cells, and a style of rich


def console() -> Console:
    """Standard output, as wide as the terminal."""
    from rich.console import Console

    screen = Console(highlight=False, markup=False)
    if screen.is_terminal:
        return screen
    return Console(highlight=False, markup=False, width=_PIPE_WIDTH)


def show_table(columns: Sequence[str], rows: Sequence[Row]) -> None:
    """On standard output. What does not fit is folded, not cut off; many rows are
    plain text that is as wide as it is."""
    if len(rows) > _PRETTY_MOST:
        sys.stdout.writelines(_plain(columns, [cells for cells, _ in rows]))
        return
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for cells, style in rows:
        made.add_row(*cells, style=style)
    console().print(made)


def _plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [
        min(max(map(_width, column)), _COLUMN_MOST)
        for column in zip(*chain([columns], rows), strict=True)
    ]
    rule = ["-" * width for width in widths]
    for cells in chain([columns, rule], rows):
        filled = map(_filled, cells, widths)
        yield f"{_GAP.join(filled).rstrip()}\n"


def _filled(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """In cells of a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
