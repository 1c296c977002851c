"""Scores as marks: who is stable, who looks at the model at all, and what stability costs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unfooled.plots.style import INK, LINE, PAPER, QUIET, canvas, families_legend, headed, look, name_points, short

REACH = (-0.6, 1.6)
"""the widest part of the stability axis that is ever shown; what lies outside is drawn at its edge"""


def ranked_dots(table: pd.DataFrame) -> Figure:
    """A ``ranking.scores`` table: a line an interpreter, transfer filled, attacked open, 95 % intervals as bars."""
    count = len(table)
    figure, axes = canvas(1.5 + 0.3 * count)
    low, high = _reach(table)
    for at, row in enumerate(table.itertuples()):
        _marks(axes, row, count - 1 - at, low, high)
    _ends(axes, low, high, count)
    axes.set_yticks(range(count - 1, -1, -1), [short(name) for name in table["interpreter"]])
    axes.tick_params(axis="y", length=0)
    shown = table[table[["transfer", "attacked"]].notna().any(axis=1)]
    note = "filled: another family was attacked (transfer) · open: its own family was attacked"
    families_legend(figure, list(shown["family"]), note)
    return headed(figure, "How stable maps stay when the model is made to lie")


def _reach(table: pd.DataFrame) -> tuple[float, float]:
    ends = table[["transfer", "transfer_low", "transfer_high", "attacked", "attacked_low", "attacked_high"]].to_numpy()
    ends = ends[np.isfinite(ends)]
    low, high = min(-0.05, ends.min(initial=0) - 0.05), max(1.05, ends.max(initial=1) + 0.05)
    return max(low, REACH[0]), min(high, REACH[1])


def _marks(axes: Axes, row, at: int, low: float, high: float) -> None:
    how = look(row.family)
    axes.axhline(at, color=LINE, lw=0.5, zorder=0)
    for name, shift, filled in (("transfer", 0.12, True), ("attacked", -0.16, False)):
        value, ends = getattr(row, name), (getattr(row, f"{name}_low"), getattr(row, f"{name}_high"))
        if not np.isfinite(value):
            continue
        if np.isfinite(ends).all():
            axes.plot(np.clip(ends, low, high), [at + shift] * 2, color=how.colour, lw=2 if filled else 1.1)
        face = how.colour if filled else PAPER
        place = float(np.clip(value, low, high))
        axes.plot(place, at + shift, how.marker, ms=6.5 if filled else 5, mfc=face, mec=how.colour, mew=1.2, zorder=3)
    said = row.reason.split(":")[0] if row.reason else _rank(row)
    axes.text(1.015, at, said, transform=axes.get_yaxis_transform(), va="center", color=QUIET if row.reason else INK)


def _rank(row) -> str:
    span = f"{row.rank_low:.0f}–{row.rank_high:.0f}" if row.rank_low != row.rank_high else f"{row.rank_low:.0f}"
    return f"rank {span}  {row.tie}"


def _ends(axes: Axes, low: float, high: float, count: int) -> None:
    """The two ends that calibrate: a random network and honest fine-tuning."""
    for x, word in ((0, "as a random\nnetwork"), (1, "as under honest\nfine-tuning")):
        axes.plot([x, x], [-0.6, count - 0.45], color=QUIET, lw=0.9, ls=(0, (4, 3)), zorder=1)
        axes.text(x, count - 0.4, word, ha="center", va="bottom", fontsize=8.5, color=QUIET, linespacing=1.1)
    axes.set_xlim(low, high)
    axes.set_ylim(-0.6, count + 0.75)
    axes.set_xlabel("calibrated stability, with 95 % interval")
    axes.spines["left"].set_visible(False)


def sensitivity(table: pd.DataFrame) -> Figure:
    """Raw similarities: fooled against random network. Canaries lie to the left, whatever the height."""
    shown = table[table[["raw_fooled", "raw_randomised"]].notna().all(axis=1)]
    x, y = 1 - shown["raw_randomised"].to_numpy(), shown["raw_fooled"].to_numpy()
    figure, axes = canvas(max(4.4, 1.4 + 0.18 * len(shown)))
    right, bottom = max(1.0, x.max(initial=0)) + 0.04, min(0.0, y.min(initial=0)) - 0.04
    axes.set_xlim(-0.04, right)
    axes.set_ylim(bottom, 1.06)
    line = np.array([1 - 1.06, right])
    axes.plot(line, 1 - line, color=QUIET, lw=0.9, ls=(0, (4, 3)))
    axes.text(
        0.29, 0.69, "no better than a random network", color=QUIET, fontsize=8.5, ha="center", va="top",
        rotation=-45, rotation_mode="anchor", transform_rotates_text=True,
    )  # fmt: skip
    _points(axes, shown, x, y)
    axes.set_xlabel("sensitivity: 1 − similarity to the map of a random network")
    axes.set_ylabel("stability: similarity to the map of the fooled model")
    return headed(figure, "Stable because honest (top right), or because blind (top left)")


def _points(axes: Axes, table: pd.DataFrame, x: np.ndarray, y: np.ndarray) -> None:
    for family, px, py in zip(table["family"], x, y, strict=True):
        how = look(family)
        axes.plot(px, py, how.marker, ms=7, mfc=how.colour, mec=PAPER, mew=0.7, zorder=3, clip_on=False)
    axes.grid(True)
    name_points(axes, x, y, list(table["interpreter"]))
    families_legend(axes.figure, list(table["family"]))


def pareto(table: pd.DataFrame) -> Figure | None:
    """Passes through the network per map against transfer stability; None where no ranked interpreter has a cost."""
    passes = table["forward"] + table["backward"]
    shown = table[table["transfer"].notna() & (passes > 0)]
    if shown.empty:
        return None
    x, y = passes[shown.index].to_numpy(), shown["transfer"].to_numpy()
    figure, axes = canvas(max(4.0, 1.4 + 0.18 * len(shown)))
    axes.set_xscale("log")
    axes.set_xlim(min(x.min(), 1) / 1.3, max(x.max(), 10) * 1.5)
    ends = np.clip(shown[["transfer_low", "transfer_high"]].to_numpy(), *REACH)
    axes.set_ylim(min(-0.05, np.nanmin([*ends.ravel(), *y])) - 0.02, max(1.05, np.nanmax([*ends.ravel(), *y])) + 0.02)
    for at, both, family in zip(x, ends, shown["family"], strict=True):
        axes.plot([at, at], both, color=look(family).colour, lw=1.2)
    _front(axes, x, y)
    _points(axes, shown, x, y)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("passes through the network per map, forward and backward")
    axes.set_ylabel("transfer stability, with 95 % interval")
    return headed(figure, "What stability costs; the line joins the best for their price")


def front(x: np.ndarray, y: np.ndarray) -> list[int]:
    """Indices, from left to right, of the points that no other is as cheap as and better than."""
    kept: list[int] = []
    for i in np.lexsort((-y, x)):
        if not kept or y[i] > y[kept[-1]]:
            kept.append(int(i))
    return kept


def _front(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    best = front(x, y)
    steps = [*x[best], axes.get_xlim()[1]]
    axes.step(steps, [*y[best], y[best[-1]]], where="post", color=QUIET, lw=1, ls=(0, (4, 2)), zorder=1)
