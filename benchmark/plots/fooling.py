"""What the fooled models did: to the interpreters they were made against, to all others, and to the network itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

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
    headed,
    short,
)


def transfer_matrix(rates: pd.DataFrame, aimed: Mapping[str, str]) -> Figure:
    """Corrected fooling rate (cells × attacked interpreters); ``aimed``: cell → the interpreter it was made against."""
    marked = {(cell, label) for cell, label in aimed.items()}
    figure = _matrix(rates, marked)
    return headed(figure, "Whom each fooled model fools (framed: whom it was made against)")


def cell_matrix(values: pd.DataFrame, kin: set[tuple[str, str]]) -> Figure:
    """Stability of each interpreter (rows) in each cell; ``kin``: (interpreter, cell) where its family is attacked."""
    figure = _matrix(values, kin)
    return headed(figure, "Stability in each cell (framed: the interpreter's own family is attacked)")


def _matrix(values: pd.DataFrame, framed: set[tuple[str, str]]) -> Figure:
    rows, columns = values.shape
    figure = Figure((WIDTH, 1.9 + 0.27 * rows), layout="constrained")
    axes = figure.add_subplot()
    axes.pcolormesh(values.to_numpy(float), cmap=SEQUENTIAL, vmin=0, vmax=1, edgecolors=PAPER)
    for (row, column), value in np.ndenumerate(values.to_numpy(float)):
        _number(axes, row, column, value)
        if (values.index[row], values.columns[column]) in framed:
            frame = (column + 0.06, row + 0.09), 0.88, 0.82
            axes.add_patch(Rectangle(*frame, fill=False, ec=VERMILLION, lw=2))
    axes.set_yticks(np.arange(rows) + 0.5, [short(name, 38) for name in values.index])
    axes.set_xticks(
        np.arange(columns) + 0.5, [short(name, 30) for name in values.columns], rotation=30, ha="right",
        rotation_mode="anchor",
    )  # fmt: skip
    axes.set_ylim(rows, 0)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


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
    for axes in panels[-1]:
        axes.set_xlabel("patches deleted, most important first")
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
