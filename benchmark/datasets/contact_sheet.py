"""A picture of scenes: ``python -m unfooled.datasets.contact_sheet OUT.png``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from unfooled.datasets.scenes import Scenes
from unfooled.types import Splits

ROWS = 4
PAIR_ROWS = 2


def contact_sheet(path: Path, scenes: Scenes) -> None:
    """Write test images of every class, a column each, and pairs below them, with the masks' outlines, as a PNG."""
    data = scenes()
    columns = len(data.classes)
    figure = Figure(figsize=(1.05 * columns, 1.13 * (ROWS + PAIR_ROWS)))
    axes = figure.subplots(ROWS + PAIR_ROWS, columns)
    for label, column in enumerate(axes.T):
        _class_column(column, data, label)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    figure.subplots_adjust(0.005, 0.03, 0.995, 0.965, wspace=0.05, hspace=0.05)
    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})


def _class_column(column: np.ndarray, data: Splits, label: int) -> None:
    rows = np.flatnonzero(data.test.labels.numpy() == label)[:ROWS]
    for ax, row in zip(column, rows, strict=False):
        _show(ax, data.test.images[row].numpy(), data.test.masks[row, None].numpy())
    column[0].set_title(data.classes[label], fontsize=9, pad=3)
    other = (label + 3) % len(data.classes)
    pairs = data.pairs(label, other, "test", PAIR_ROWS)
    for ax, image, masks in zip(column[ROWS:], pairs.images.numpy(), pairs.masks.numpy(), strict=True):
        _show(ax, image, masks)
    column[-1].set_xlabel(f"{data.classes[label]}, {data.classes[other]}", fontsize=6.5, labelpad=3)


def _show(ax: Axes, image: np.ndarray, masks: np.ndarray) -> None:
    ax.imshow(image.transpose(1, 2, 0), interpolation="nearest")
    for mask, colour in zip(masks, ("#ffe600", "#00e5ff"), strict=False):
        # Outlines run along pixel edges: the mask is enlarged, so that its half-way line lies near them.
        fine = np.kron(mask, np.ones((4, 4)))
        places = (np.arange(fine.shape[0]) + 0.5) / 4 - 0.5
        ax.contour(places, places, fine, levels=[0.5], colors=colour, linewidths=0.9)


if __name__ == "__main__":
    contact_sheet(Path(sys.argv[1]), Scenes(train=0, tune=0, test=100))
