"""Printers of the tables: text, Markdown, CSV, LaTeX, JSON. A frame in, a string out."""

from __future__ import annotations

import json
from collections.abc import Callable

import pandas as pd

from unfooled.leaderboard.captions import caption, legend, notes
from unfooled.leaderboard.columns import COLUMNS, Column, column
from unfooled.leaderboard.latex import as_latex
from unfooled.leaderboard.layout import blocks, is_number, place, shown
from unfooled.leaderboard.terminal import as_text

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


def as_markdown(frame: pd.DataFrame) -> str:
    """GitHub's Markdown: the caption, the table or a breakdown's two, the legend as a list."""
    said = [caption(frame), ""] if caption(frame) else []
    for title, words in blocks(frame).items():
        said += [*([f"**{_markdown(title)}**", ""] if title else []), *_grid(words), ""]
    below = [f"- {_markdown(line)}" for line in [*notes(frame), *legend(frame)]]
    return "\n".join([*said, *below]).rstrip() + "\n"


def _grid(words: pd.DataFrame) -> list[str]:
    lines = [
        list(words.columns),
        ["---:" if is_number(words[c]) else "---" for c in words],
        *words.to_numpy().tolist(),
    ]
    return ["| " + " | ".join(map(_markdown, line)) + " |" for line in lines]


def _markdown(word: str) -> str:
    return word.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("_", "\\_").replace("*", "\\*")


def as_csv(frame: pd.DataFrame) -> str:
    """Every column under its own name, unrounded; an empty field is undefined."""
    return frame.to_csv(index=False, lineterminator="\n")


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
