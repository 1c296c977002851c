"""What the fooled models did: to the interpreters they were made against, to all others, and to the network itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from unfooled.plots.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PAPER,
    PURPLE,
    QUIET,
    SEQUENTIAL,
    SKY,
    VERMILLION,
    WIDTH,
    colour_bar,
    headed,
    short,
)


def transfer_matrix(rates: pd.DataFrame, aimed: Mapping[str, str], counts: Mapping[str, tuple[int, int]]) -> Figure:
    """Corrected fooling rate, 0 to 1 (cells × attacked interpreters).

    ``aimed``: cell → the interpreter it was made against; ``counts``: cell → in how many settings it was fooled, and of
    how many.
    """
    named = [f"{short(cell, 38)}   {counts[cell][0]} of {counts[cell][1]}" for cell in rates.index]
    figure = _matrix(rates, set(aimed.items()), named, "corrected fooling rate")
    return headed(figure, "Whom each fooled model fools (framed: whom it was made against)")


def cell_matrix(values: pd.DataFrame, kin: set[tuple[str, str]]) -> Figure:
    """Stability of each interpreter (rows) in each cell; ``kin``: (interpreter, cell) where its family is attacked."""
    figure = _matrix(values, kin, [short(name, 38) for name in values.index], "stability")
    return headed(figure, "Stability in each cell (framed: the interpreter's own family is attacked)")


def _matrix(values: pd.DataFrame, framed: set[tuple[str, str]], named: Sequence[str], scale: str) -> Figure:
    """``framed``: (row, column); ``named``: what the rows are called; ``scale``: what the colours mean."""
    rows, columns = values.shape
    figure = Figure((WIDTH, 1.9 + 0.27 * rows), layout="constrained")
    axes = figure.add_subplot()
    mesh = axes.pcolormesh(values.to_numpy(float), cmap=SEQUENTIAL, vmin=0, vmax=1, edgecolors=PAPER)
    for (row, column), value in np.ndenumerate(values.to_numpy(float)):
        _number(axes, row, column, value)
        if (values.index[row], values.columns[column]) in framed:
            axes.add_patch(_frame(column, row))
    colour_bar(axes, mesh, scale)
    axes.set_yticks(np.arange(rows) + 0.5, named)
    axes.set_xticks(
        np.arange(columns) + 0.5, [short(name, 36) for name in values.columns], rotation=30, ha="right",
        rotation_mode="anchor",
    )  # fmt: skip
    axes.set_ylim(rows, 0)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _frame(column: int, row: int) -> Rectangle:
    """Black on a wider white line: one of the two is seen on any colour, and on any grey."""
    line = [withStroke(linewidth=4, foreground="#ffffff")]
    return Rectangle((column + 0.06, row + 0.09), 0.88, 0.82, fill=False, ec="#000000", lw=1.6, path_effects=line)


def _number(axes: Axes, row: int, column: int, value: float) -> None:
    if not np.isfinite(value):
        axes.text(column + 0.5, row + 0.5, "–", ha="center", va="center", color=QUIET)
        return
    light = value > 0.55
    text = f"{round(value, 2) or 0.0:.2f}".replace("-", "−")
    text = text.replace("0.", ".", 1) if abs(value) < 0.995 else text
    axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=8,
              color="#000000" if light else "#ffffff")  # fmt: skip


def aopc(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """cell → curve → how far the logit has fallen after each deleted patch: one panel a cell."""
    columns = min(len(curves), 2)
    rows = -(-len(curves) // columns)
    figure = Figure((WIDTH, 0.9 + 2.5 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
    found = dict.fromkeys(name for some in curves.values() for name in some)
    names = sorted(found, key=lambda name: _network(name) != "original")
    styles = dict(zip(names, _styles(names), strict=True))
    for axes, (cell, some) in zip(panels.flat, curves.items(), strict=False):
        for name in (n for n in names if n in some):
            axes.plot(range(1, len(some[name]) + 1), some[name], **styles[name], label=_in_words(name))
        axes.set_title(short(cell, 40))
        axes.grid(True)
    for axes in panels.flat[len(curves) :]:
        axes.axis("off")
    for axes in panels.flat[max(len(curves) - columns, 0) : len(curves)]:  # the last one of each column
        axes.set_xlabel("patches deleted, most important first")
        axes.tick_params(axis="x", labelbottom=True)  # a shared axis has them in the bottom row alone
    figure.supylabel("mean fall of the logit (AOPC)", fontsize=9.5)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return headed(figure, "How fast the logit falls as patches are deleted")


def _styles(names: Sequence[str]) -> list[dict[str, object]]:
    """The network by its colour, the order of deletion by dash and marker, so that print tells them apart too."""
    colours = (INK, VERMILLION, BLUE, GREEN, PURPLE, ORANGE, SKY)
    dashes, markers = ("-", (0, (5, 2)), (0, (1, 1.5))), ("o", "s", "^")
    networks = list(dict.fromkeys(_network(n) for n in names))
    count: dict[str, int] = {}
    found = []
    for name in names:
        network = _network(name)
        place = count[network] = count.get(network, -1) + 1
        found.append(
            {
                "color": colours[networks.index(network) % len(colours)],
                "ls": dashes[place % 3],
                "marker": markers[place % 3],
                "markevery": 0.15,
                "ms": 4,
                "lw": 1.4,
            }
        )
    return found


def _in_words(name: str) -> str:
    """``original/fooled map`` → original network, by the fooled map."""
    network, _, order = name.partition("/")
    by = f"by the {order}" if order.endswith("map") else f"in {order} order"
    return short(f"{network} network, {by}" if order else name, 50)


def _network(name: str) -> str:
    """Whose logit a curve follows."""
    return name.partition("/")[0]
