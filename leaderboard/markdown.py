"""Numbers, intervals and tables of the findings as Markdown; words from outside cannot break it."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from unfooled.leaderboard import tables
from unfooled.leaderboard.claims import Condition, Estimate
from unfooled.wording import one_line

DASH = "–"
SMALL = 0.05
"""below it two digits would all be zeros"""


def number(value: object, digits: int = 2) -> str:
    """Rounded, with a true minus; – where undefined."""
    if value is None or not np.isfinite(float(value)):
        return DASH
    text = f"{float(value):.{digits}f}"
    return (text.removeprefix("-") if float(text) == 0 else text).replace("-", "−")


def interval(estimate: Estimate) -> str:
    """``0.95 [0.88, 1.01]``, three digits where two would all be zeros, with the p of a paired difference."""
    digits = 3 if max(abs(estimate.low), abs(estimate.high)) < SMALL else 2
    text = number(estimate.value, digits)
    if np.isfinite([estimate.low, estimate.high]).all():
        text += f" [{number(estimate.low, digits)}, {number(estimate.high, digits)}]"
    return text + (f", p {_p_value(estimate.p)}" if np.isfinite(estimate.p) else "")


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"


def _found(what: Condition) -> str:
    if len(what.estimates) == 1:
        return interval(what.estimates[0])
    words = {"holds": "holds for {}", "open": "open for {}", "fails": "fails for {}", "undefined": "untested for {}"}
    counts = [(text, what.states.count(state)) for state, text in words.items()]
    return f"of {len(what.estimates)}: " + ", ".join(t.format(n) for t, n in counts if n) if what.estimates else DASH


def _settings(what: Condition) -> str:
    counts = sorted({e.n for e in what.estimates if np.isfinite(e.value)})
    return DASH if not counts else str(counts[0]) if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"


def _markdown_table(frame: pd.DataFrame) -> str:
    """Estimates with their intervals, numbers rounded, words escaped."""
    words = frame.map(_cell)
    rows = [list(words.columns), ["---"] * words.shape[1], *words.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) if len(frame) else ""


def _cell(value: object) -> str:
    if isinstance(value, Estimate):
        return interval(value)
    return number(value) if isinstance(value, (float, np.floating)) else _escaped(str(value))


def _escaped(text: str) -> str:
    return re.sub(r"([\\|<_*`\[\]])", r"\\\1", one_line(text))


def _code(text: str) -> str:
    return f"`{one_line(text).replace('`', '')}`"


def _ranking(table: pd.DataFrame) -> str:
    """The headline's first columns; legend and reasons are told elsewhere."""
    shown = tables.shown(table[table["rank"].notna()])
    return _markdown_table(shown)


FILTERS: dict[str, Callable] = {
    "num": number,
    "ci": interval,
    "md": _escaped,
    "p_value": _p_value,
    "found": _found,
    "settings": _settings,
    "main": lambda one: interval(one.main),
    "in_words": lambda state: {"undefined": DASH}.get(state, state),
    "code": _code,
    "names": lambda names: ", ".join(map(_code, names)),
    "table": _markdown_table,
    "ranking": _ranking,
}
