"""Printers of the tables: text, Markdown, CSV, LaTeX, JSON. A frame in, a string out."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable

import numpy as np
import pandas as pd
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unfooled.leaderboard.columns import COLUMNS, Column, column
from unfooled.wording import one_line

__all__ = [
    "COLUMNS",
    "PRINTERS",
    "Column",
    "as_csv",
    "as_json",
    "as_latex",
    "as_markdown",
    "as_text",
    "caption",
    "place",
    "shown",
]

_LATEX = str.maketrans(
    {c: rf"\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--", "−": "$-$", "×": r"$\times$", "<": "$<$", ">": "$>$"}
)


def caption(frame: pd.DataFrame) -> str:
    """One line that says what the numbers mean and what their intervals are over."""
    about = frame.attrs
    if "polarity" not in about:
        return ""
    kind = f"{about['polarity']} maps at {'input resolution' if about['at'] == 'input' else about['at']}"
    over = (
        f"{about['settings']} settings"
        if about.get("settings", 0) > 1
        else "the images of one setting, conditional on it"
    )
    ends = f"; 95 % intervals over {over}" if "settings" in about else ""
    if "by" in about:
        ends = f", by {about['by']}; attacks on a method's own kind are left out"
    return (
        f"Calibrated stability of {kind}: 1 is as stable as under honest fine-tuning, 0 is as a random network{ends}."
    )


def shown(frame: pd.DataFrame, value: str = "transfer") -> pd.DataFrame:
    """The frame as people read it: words in every field, – where undefined.

    A ranked table joins estimates with their intervals and leaves out columns that hold nothing; a breakdown becomes
    one row per interpreter with ``value`` for each of the group's members; any other frame is only formatted.
    """
    if "by" in frame.attrs:
        return _words(_pivot(frame, value))
    return _ranked(frame) if {"rank", "transfer"} <= set(frame.columns) else _words(frame)


def _pivot(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    group = frame.attrs["by"]
    wide = frame.pivot(index="interpreter", columns=group, values=value)
    return wide.loc[frame["interpreter"].drop_duplicates(), frame[group].drop_duplicates()].reset_index()


def _words(frame: pd.DataFrame) -> pd.DataFrame:
    words = {column(c).heading: [_word(v, column(c)) for v in frame[c]] for c in frame.columns}
    return pd.DataFrame(words, dtype=object)  # a table without rows holds words too


def _word(value: object, what: Column) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, (int, float, np.number)) and what.digits is not None:
        return f"{value:.{what.digits}f}"
    return one_line(value)


def _ranked(frame: pd.DataFrame) -> pd.DataFrame:
    words = pd.DataFrame({c: [_word(v, column(c)) for v in frame[c]] for c in frame.columns}, dtype=object)
    table = pd.DataFrame(
        {
            column("rank").heading: [_with_ends(r.rank, r.rank_low, r.rank_high, "–") for r in words.itertuples()],
            column("tie").heading: words["tie"],
            column("interpreter").heading: words["interpreter"] + np.where(frame["canary"], " (canary)", ""),
        }
    )
    for name in ("transfer", "attacked", "adaptive"):
        ends = words[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False)
        table[column(name).heading] = [_with_ends(*e, ", ", "[]") for e in ends]
    for name in ("worst", "worst_cell", "metrics_counted", "coverage"):
        table[column(name).heading] = words[name]
    return table[[c for c in table if not table[c].isin(["–", ""]).all() or c == column("transfer").heading]].astype(
        object
    )


def _with_ends(value: str, low: str, high: str, between: str, brackets: str = "()") -> str:
    known = value != "–" and "–" not in (low, high)
    return f"{value} {brackets[0]}{low}{between}{high}{brackets[1]}" if known else value


def legend(frame: pd.DataFrame) -> list[str]:
    """A line for each column of what ``shown`` prints: heading, meaning, range."""
    headings = set(shown(frame).columns)
    found = (c for c in COLUMNS if c.heading in headings and c.name in frame.columns)
    return [f"{c.heading}: {c.meaning}" + (f" ({c.range})" if c.range else "") for c in found]


def notes(frame: pd.DataFrame) -> list[str]:
    """What the table leaves open: why each interpreter that is not ranked is not."""
    if not {"reason", "rank"} <= set(frame.columns):
        return []
    unranked = frame[frame["reason"] != ""]
    return [f"not ranked: {one_line(r.interpreter)}: {r.reason}" for r in unranked.itertuples()]


def place(frame: pd.DataFrame, label: str) -> str:
    """One line that says where an interpreter stands in a ``ranking.scores`` table, or why it has no rank."""
    found, who = frame[frame["interpreter"] == label], one_line(label)
    if found.empty:
        return f"{who}: not in this table, which is of other maps or of those that did not fail"
    reason = found["reason"].iloc[0]
    if reason:
        return f"{who}: not ranked: {reason}"
    line = shown(found).iloc[0]
    said = [f"rank {line[column('rank').heading]} of {frame['rank'].notna().sum()} by stability"]
    for name, where in (("transfer", "other families are"), ("attacked", "its own is"), ("adaptive", "it is itself")):
        words = line.get(column(name).heading, "–")
        said += [f"{words} where {where} attacked"] if words != "–" else []
    return f"{who}: {', '.join(said)}"


def as_text(frame: pd.DataFrame, *, width: int | None = None) -> str:
    """For a terminal: the table, its caption, who is not ranked and why, a legend.

    ``width`` in characters; None: the terminal's, 160 where there is none. Where a ranked table is wider, columns of
    ``SPARED`` are left out, and the last line names them.
    """
    width = width or shutil.get_terminal_size((160, 24)).columns
    words = shown(frame)
    spared = _spared(words, width)
    words = words.drop(columns=spared)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in words.columns:
        table.add_column(Text(heading), overflow="fold", justify="right" if _is_number(words[heading]) else "left")
    for row in words.itertuples(index=False):
        table.add_row(*(Text(word) for word in row))
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=False)
    console.print(table)
    below = (f"  {line}" for line in legend(frame) if line.split(":")[0] not in spared)
    left_out = f"left out at {width} characters a line (other forms hold all): {', '.join(spared)}" if spared else ""
    for line in filter(None, [caption(frame), *notes(frame), *below, left_out]):
        console.print(Text(line))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


SPARED = ("coverage", "metrics_counted", "worst_cell", "worst", "attacked", "adaptive")
"""columns of a ranked table that a narrow terminal does without, the first first"""
_FOLDED = 24
"""characters at which a long label may be folded"""


def _spared(words: pd.DataFrame, width: int) -> list[str]:
    """The headings that must go for the table to fit."""
    gap = 3
    wide = {c: gap + max(cell_len(c), min(_FOLDED, words[c].map(cell_len).max())) for c in words} if len(words) else {}
    spared = []
    for heading in (column(name).heading for name in SPARED):
        if sum(wide.values()) - gap > width and wide.pop(heading, 0):
            spared.append(heading)
    return spared


def _is_number(words: pd.Series) -> bool:
    return bool(words.str.match(r"^(–|-?[\d.]+( [(\[].*)?)$").all())


def as_markdown(frame: pd.DataFrame) -> str:
    """GitHub's Markdown: the caption, the table, the legend as a list."""
    words = shown(frame)
    lines = [
        list(words.columns),
        ["---:" if _is_number(words[c]) else "---" for c in words],
        *words.to_numpy().tolist(),
    ]
    body = ["| " + " | ".join(map(_markdown, line)) + " |" for line in lines]
    below = [f"- {_markdown(line)}" for line in [*notes(frame), *legend(frame)]]
    return "\n".join([*([caption(frame), ""] if caption(frame) else []), *body, "", *below]).rstrip() + "\n"


def _markdown(word: str) -> str:
    return word.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("_", "\\_").replace("*", "\\*")


def as_csv(frame: pd.DataFrame) -> str:
    """Every column under its own name, unrounded; an empty field is undefined."""
    return frame.to_csv(index=False, lineterminator="\n")


def as_latex(frame: pd.DataFrame) -> str:
    """A ``table`` environment for booktabs, the legend as comments."""
    words = shown(frame)
    aligned = "".join("r" if _is_number(words[c]) else "l" for c in words)
    rows = [" & ".join(map(_latex, row)) + r" \\" for row in [list(words.columns), *words.to_numpy().tolist()]]
    return "\n".join(
        [
            *(f"% {line}" for line in [*notes(frame), *legend(frame)]),
            r"\begin{table}",
            rf"\caption{{{_latex(caption(frame))}}}",
            rf"\begin{{tabular}}{{{aligned}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _latex(word: str) -> str:
    return word.translate(_LATEX)


def as_json(frame: pd.DataFrame) -> str:
    """``{caption, columns, rows}``: every column with its meaning, rows unrounded, null where undefined."""
    about = [
        {"name": c.name, "arrow": c.arrow, "low": c.low, "high": c.high, "unit": c.unit, "meaning": c.meaning}
        for c in map(column, frame.columns)
    ]
    rows = json.loads(frame.to_json(orient="records", double_precision=15))
    return json.dumps({"caption": caption(frame), "columns": about, "rows": rows}, indent=1, ensure_ascii=False) + "\n"


PRINTERS: dict[str, Callable[[pd.DataFrame], str]] = {
    "text": as_text,
    "markdown": as_markdown,
    "csv": as_csv,
    "latex": as_latex,
    "json": as_json,
}
