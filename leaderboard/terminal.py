"""Tables for a terminal of any width."""

from __future__ import annotations

import io
import shutil

import pandas as pd
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unfooled.leaderboard.captions import caption, legend, notes
from unfooled.leaderboard.columns import column
from unfooled.leaderboard.layout import blocks, is_number, shown

SPARED = ("coverage", "metrics_counted", "worst_cell", "worst", "attacked", "adaptive")
"""columns of a ranked table that a narrow terminal does without, the first first"""
_FOLDED = 24
"""characters at which a long label may be folded"""
_FOLDED_HEADING = 16
"""the same for the heading above a breakdown's numbers"""
_GAP, _TIGHT = 3, 2
"""characters between two columns of a table, and of a breakdown"""


def as_text(frame: pd.DataFrame, *, width: int | None = None) -> str:
    """For a terminal: the table, its caption, who is not ranked and why, a legend.

    ``width`` in characters; None: the terminal's, 160 where there is none. Where a ranked table is wider, columns of
    ``SPARED`` are left out, and the last line names them; where a breakdown is, its intervals stand below their
    estimates, and then its columns in several tables, one under the other.
    """
    width = width or shutil.get_terminal_size((160, 24)).columns
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=False)
    spared = []
    if "by" in frame.attrs:
        _print_breakdown(blocks(frame), console)
    else:
        words = shown(frame)
        spared = _spared(words, width)
        console.print(_table(words.drop(columns=spared)))
    below = (f"  {line}" for line in legend(frame) if line.split(":")[0] not in spared)
    left_out = f"left out at {width} characters a line (other forms hold all): {', '.join(spared)}" if spared else ""
    for line in filter(None, [caption(frame), *notes(frame), *below, left_out]):
        console.print(Text(line))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _table(words: pd.DataFrame, widths: dict[str, int] | None = None) -> Table:
    padding = (0, 1, 0, _GAP - 2 if widths is None else _TIGHT - 2)  # the box itself is one character wide
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding)
    for heading in words.columns:
        side = "right" if is_number(words[heading]) else "left"
        table.add_column(Text(heading), overflow="fold", justify=side, width=widths and widths[heading])
    for row in words.itertuples(index=False):
        table.add_row(*(Text(word) for word in row))
    return table


def _spared(words: pd.DataFrame, width: int) -> list[str]:
    """The headings that must go for the table to fit."""
    wide = {c: _GAP + max(cell_len(c), min(_FOLDED, words[c].map(cell_len).max())) for c in words} if len(words) else {}
    spared = []
    for heading in (column(name).heading for name in SPARED):
        if sum(wide.values()) - _GAP > width and wide.pop(heading, 0):
            spared.append(heading)
    return spared


def _print_breakdown(found: dict[str, pd.DataFrame], console: Console) -> None:
    """Both blocks with the same widths, so that a number of the one stands below that of the other."""
    found, widths = _fitting(found, console.width)
    for title, words in found.items():
        for piece in _pieces(widths, console.width):
            console.print(Text(title))
            console.print(_table(words[piece], widths))
            console.print()


def _fitting(found: dict[str, pd.DataFrame], width: int) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """The blocks and their columns' widths in the first form that fits, or else in the narrowest.

    First headings are folded, then long names, then intervals go below their estimates.
    """
    below = {title: words.map(lambda word: word.replace(" [", "\n[")) for title, words in found.items()}
    for form, name, heading in (
        (found, width, width),
        (found, width, _FOLDED_HEADING),
        (found, _FOLDED, _FOLDED_HEADING),
        (below, _FOLDED, _FOLDED_HEADING),
    ):
        widths = _widths(form, name, heading)
        if sum(widths.values()) + _TIGHT * (len(widths) - 1) <= width:
            break
    return form, widths


def _widths(found: dict[str, pd.DataFrame], name: int, heading: int) -> dict[str, int]:
    """Heading → characters that its column gets, where a name is folded after ``name``, a heading after ``heading``."""
    words = pd.concat(found.values())
    first, *others = words
    widths = {first: min(name, max(cell_len(first), _wide(words[first])))}
    return widths | {c: max(min(cell_len(c), heading), _wide(words[c])) for c in others}


def _wide(words: pd.Series) -> int:
    return max((cell_len(line) for word in words for line in word.split("\n")), default=0)


def _pieces(widths: dict[str, int], width: int) -> list[list[str]]:
    """The columns in runs that fit beside the first one, which each run begins with."""
    first, *others = widths
    pieces, used = [[first]], widths[first]
    for heading in others:
        if len(pieces[-1]) > 1 and used + _TIGHT + widths[heading] > width:
            pieces.append([first])
            used = widths[first]
        pieces[-1].append(heading)
        used += _TIGHT + widths[heading]
    return pieces
