"""Ranks: how they hang on the way of scoring, and which of them a test can tell apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unfooled.plots.style import INK, LINE, PAPER, QUIET, SEQUENTIAL, WIDTH, colour_bar, headed, short, wrapped

MOST_NUMBERS = 30
"""columns in which a number fits"""


def specification_curve(ranks: pd.DataFrame) -> Figure:
    """A ``multiverse``: each interpreter's rank (rows) under each way to score (columns), what the way is below."""
    ranks = ranks.dropna(axis=1, how="all")
    ranks = ranks[ranks.notna().any(axis=1)]
    choices = _choices(ranks.index)
    rows, columns = ranks.shape[1], ranks.shape[0]
    figure = Figure((WIDTH, 1.3 + 0.24 * (rows + len(choices))), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[max(rows, 1), max(len(choices), 1)])
    _rank_grid(upper, ranks)
    _choice_dots(lower, choices, columns)
    lower.set_xlabel("one column: one way to score")
    return headed(figure, "The rank of each interpreter under every way to score")


def _choices(index: pd.MultiIndex) -> list[tuple[str, np.ndarray]]:
    """(what was chosen, the columns in which it was), in a readable order."""
    frame = index.to_frame(index=False)
    found = [(f"{p} maps", (frame["polarity"] == p).to_numpy()) for p in frame["polarity"].unique()]
    for metric in frame["metric"].unique():
        name = "mean of metrics" if metric == "mean" else str(metric)
        found.append((name, (frame["metric"] == metric).to_numpy()))
    parts = frame["variant"].map(lambda v: _separate(str(v)))
    for variant in dict.fromkeys(v for some in parts for v in some):
        found.append((variant, parts.map(lambda some, v=variant: v in some).to_numpy()))
    return found


def _separate(variant: str) -> list[str]:
    """``a(x=1, y=2), b(z=3)`` → its parts: a comma within brackets separates nothing."""
    parts, depth = [""], 0
    for letter in variant:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [p.strip() for p in parts if p.strip()]


def _rank_grid(axes: Axes, ranks: pd.DataFrame) -> None:
    values = ranks.to_numpy().T
    most = max(np.nanmax(values, initial=1), 2)
    mesh = axes.pcolormesh(values, cmap=f"{SEQUENTIAL}_r", vmin=1, vmax=most, edgecolors=PAPER, lw=0.6)
    if ranks.shape[0] <= MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                dark = (value - 1) / (most - 1) > 0.5
                axes.text(
                    column + 0.5, row + 0.5, f"{value:.0f}", ha="center", va="center", fontsize=7.5,
                    color="#ffffff" if dark else "#000000",
                )  # fmt: skip
    axes.set_yticks(np.arange(len(values)) + 0.5, [short(name) for name in ranks.columns])
    _bare(axes, len(values))
    bar = colour_bar(axes, mesh, "rank")
    bar.ax.invert_yaxis()
    bar.locator = MaxNLocator(integer=True)
    bar.update_ticks()


def _bare(axes: Axes, rows: int) -> None:
    axes.set_ylim(rows, 0)
    axes.tick_params(length=0)
    axes.tick_params(axis="x", labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _choice_dots(axes: Axes, choices: list[tuple[str, np.ndarray]], columns: int) -> None:
    at = np.arange(columns) + 0.5
    for row, (_, chosen) in enumerate(choices):
        axes.plot(at, np.full(columns, row + 0.5), ".", ms=2, color=LINE)
        axes.plot(at[chosen], np.full(chosen.sum(), row + 0.5), "o", ms=4.5, color=INK)
    axes.set_yticks(np.arange(len(choices)) + 0.5, [short(name) for name, _ in choices])
    _bare(axes, len(choices))


def critical_difference(names: Sequence[str], mean_ranks: np.ndarray, difference: float) -> Figure:
    """Demšar's (2006) diagram: mean ranks over settings on a line, bars join what lies closer than the difference."""
    order = np.argsort(mean_ranks, kind="stable")
    ranks, labels = np.asarray(mean_ranks)[order], [wrapped(names[i], 30) for i in order]
    bars = cliques(ranks, difference)
    half = (len(ranks) + 1) // 2
    left, right = _rows(labels[:half]), _rows(labels[half:][::-1])[::-1]
    figure = Figure((WIDTH, 1.4 + 0.24 * max(left[-1], *right, 0) + 0.24 + 0.13 * len(bars)), layout="constrained")
    axes = figure.add_subplot()
    low, high = 1, len(ranks)
    _scale(axes, low, high, difference)
    for row, (first, last) in enumerate(bars):
        axes.plot([ranks[first] - 0.05, ranks[last] + 0.05], [-0.5 - 0.45 * row] * 2, color=INK, lw=3.5)
    top = -0.8 - 0.45 * len(bars)
    side = 0.06 * (high - low)
    for i, (rank, label, row) in enumerate(zip(ranks, labels, [*left, *right], strict=True)):
        depth = top - 0.85 * row
        end = low - side if i < half else high + side
        axes.plot([rank, rank, end], [0, depth, depth], color=QUIET, lw=0.9)
        said = f"{label}  {rank:.1f} " if i < half else f" {rank:.1f}  {label}"
        axes.text(end, depth, said, ha="right" if i < half else "left", va="center", fontsize=8.5)
    axes.axis("off")
    return headed(figure, "Mean ranks over settings; a bar joins what the test cannot tell apart")


def _rows(labels: Sequence[str]) -> list[float]:
    """Where the middle of each label lies, in rows from the first; a label of two lines takes two rows."""
    sizes = np.array([label.count("\n") + 1 for label in labels])
    return (np.cumsum(sizes) - sizes / 2 - 0.5).tolist()


def _scale(axes: Axes, low: int, high: int, difference: float) -> None:
    axes.plot([low, high], [0, 0], color=INK, lw=1.2)
    for rank in range(low, high + 1):
        axes.plot([rank, rank], [0, 0.2], color=INK, lw=1)
        if high > 12 and rank % 5 and rank not in (low, high):
            continue
        axes.text(rank, 0.35, str(rank), ha="center", va="bottom")
    axes.plot([low, low + difference], [1.75, 1.75], "|-", color=INK, lw=1.5, ms=8)
    axes.text(low, 2.0, f"critical difference {difference:.2f} (Nemenyi, 5 %)", ha="left", va="bottom")


def cliques(ranks: np.ndarray, difference: float) -> list[tuple[int, int]]:
    """(first, last) of every longest run of sorted mean ranks that spans at most the difference; single ones apart."""
    found: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = int(np.searchsorted(ranks, ranks[first] + difference, side="right")) - 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found
