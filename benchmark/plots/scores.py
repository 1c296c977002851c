"""Scores as marks: who is stable, who looks at the model at all, and what stability costs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from unfooled.plots.style import (
    INK,
    LINE,
    PAPER,
    QUIET,
    WIDTH,
    canvas,
    families_legend,
    headed,
    look,
    name_points,
    short,
)

REACH = (-0.6, 1.6)
"""the widest part of the stability axis that is ever shown; what lies outside is drawn at its edge"""


def ranked_dots(table: pd.DataFrame) -> Figure:
    """A ``ranking.scores`` table: a line an interpreter, transfer filled, attacked open, 95 % intervals as bars."""
    count = len(table)
    figure, axes = canvas(1.5 + 0.3 * count)
    low, high = _reach(table)
    for at, row in enumerate(table.itertuples()):
        _marks(axes, row, count - 1 - at, low, high, bool(table.attrs.get("conditional")))
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


def _marks(axes: Axes, row, at: int, low: float, high: float, alone: bool) -> None:
    """``alone``: of one setting, which ranks nobody."""
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
    said = row.reason.split(":")[0] or ("" if alone else _rank(row))
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
    shown = similar(table)
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
    axes.set_ylabel("similarity to the map of the fooled model")
    return headed(figure, "Alike because honest (top right), or because blind (top left)")


def similar(table: pd.DataFrame) -> pd.DataFrame:
    """Those with both raw similarities: what ``sensitivity`` shows."""
    return table[table[["raw_fooled", "raw_randomised"]].notna().all(axis=1)]


def _points(axes: Axes, table: pd.DataFrame, x: np.ndarray, y: np.ndarray) -> None:
    for family, px, py in zip(table["family"], x, y, strict=True):
        how = look(family)
        axes.plot(px, py, how.marker, ms=7, mfc=how.colour, mec=PAPER, mew=0.7, zorder=3, clip_on=False)
    axes.grid(True)
    name_points(axes, x, y, list(table["interpreter"]), list(table["family"]))
    families_legend(axes.figure, list(table["family"]))


def pareto(table: pd.DataFrame) -> Figure | None:
    """A line an interpreter, the most stable on top: transfer stability, passes through the network, and memory.

    None where no ranked interpreter has a cost.
    """
    shown = priced(table)
    if shown.empty:
        return None
    count = len(shown)
    figure = Figure((WIDTH, 1.6 + 0.24 * count), layout="constrained")
    stable, passes, memory = figure.subplots(1, 3, sharey=True)
    heights = np.arange(count - 1, -1, -1)
    ends = np.clip(shown[["transfer_low", "transfer_high"]].to_numpy(), *REACH)
    for at, both, family in zip(heights, ends, shown["family"], strict=True):
        stable.plot(both, [at, at], color=look(family).colour, lw=1.4)
    _column(stable, shown, shown["transfer"].clip(*REACH).to_numpy(), heights)
    stable.set_xlabel("transfer stability,\nwith 95 % interval")
    stable.set_yticks(heights, [short(name) for name in shown["interpreter"]])
    for axes, values, said in (
        (passes, (shown["forward"] + shown["backward"]).to_numpy(), "passes per map,\nforward and backward"),
        (memory, shown["memory"].to_numpy(), "memory per image in\nthe network (MiB)"),
    ):
        _prices(axes, shown, values, heights, said)
    families_legend(figure, list(shown["family"]))
    return headed(figure, "What stability costs; ringed: nobody above is as cheap")


def priced(table: pd.DataFrame) -> pd.DataFrame:
    """Those with a rank that ask the network, and are known to: what ``pareto`` shows, the most stable first."""
    shown = table[(table["reason"] == "") & table["transfer"].notna() & (table["forward"] + table["backward"] > 0)]
    return shown.sort_values("transfer", ascending=False, kind="stable")


def _column(axes: Axes, table: pd.DataFrame, values: np.ndarray, heights: np.ndarray) -> None:
    for at, value, family in zip(heights, values, table["family"], strict=True):
        axes.plot(value, at, look(family).marker, ms=5.5, mfc=look(family).colour, mec=PAPER, mew=0.6, zorder=3)
    axes.grid(True)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.6, len(table) - 0.4)


def _prices(axes: Axes, table: pd.DataFrame, values: np.ndarray, heights: np.ndarray, said: str) -> None:
    """A column of prices, the unbeaten ringed; the line is the least price so far, from the most stable downwards."""
    axes.set_xlabel(said)
    known = np.isfinite(values) & (values > 0)
    if not known.any():
        return
    axes.set_xscale("log")
    low, high = values[known].min() / 1.8, values[known].max() * 1.8
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if high / low > 60 else (1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda *_: "")
    _column(axes, table, np.where(known, values, np.nan), heights)
    best = [np.flatnonzero(known)[i] for i in front(values[known], table["transfer"].to_numpy()[known])][::-1]
    line = [*values[best], values[best[-1]]], [*heights[best], -0.6]
    axes.step(*line, where="pre", color=QUIET, lw=1, ls=(0, (4, 2)), zorder=1)
    axes.plot(values[best], heights[best], "o", ms=10, mfc="none", mec=INK, mew=1.1, zorder=3, label="unbeaten")


def front(x: np.ndarray, y: np.ndarray) -> list[int]:
    """Indices, from left to right, of the points that no other is as cheap as and better than."""
    kept: list[int] = []
    for i in np.lexsort((-y, x)):
        if not kept or y[i] > y[kept[-1]]:
            kept.append(int(i))
    return kept
