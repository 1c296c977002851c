"""What all figures share: one ink, one grid, a colour and a marker for each family, labels that do not collide."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import QuadMesh
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from unfooled.wording import one_line

WIDTH = 7.2
"""inches: 691 pixels of a browser, where 9.5 points are 13 pixels"""
DPI = 160
"""pixels to the inch of every PNG file"""
INK, LINE, QUIET, PAPER = "#010101", "#cccdcd", "#666768", "#fefdfe"
"""text, grid, secondary text, background: colours of no other use, so that a page can put its own in their place"""
BLUE, VERMILLION, GREEN, PURPLE, SKY, ORANGE = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"
"""Okabe and Ito's colours, told apart by the colour-blind"""
SEQUENTIAL = "cividis"
RC = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": LINE,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "unfooled",
}
"""``parse_math`` is off because labels come from outside, and a dollar sign in one must stay a dollar sign."""


@dataclass(frozen=True)
class Look:
    """How the marks of a family look; shape and colour say the same, so either is enough."""

    colour: str
    marker: str


LOOKS = {
    "gradients": Look(BLUE, "o"),
    "activations": Look(VERMILLION, "s"),
    "propagation": Look(GREEN, "^"),
    "perturbation": Look(PURPLE, "D"),
    "canary": Look("#8a8a8a", "X"),
}
OTHER = Look(SKY, "P")


def look(family: str) -> Look:
    return LOOKS.get(family, OTHER)


@contextmanager
def styled() -> Iterator[None]:
    """Within the block matplotlib draws in our style; its settings are put back afterwards."""
    with matplotlib.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # labels may be in any script
        yield


def canvas(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """A figure of one pair of axes; its size in inches."""
    figure = Figure((width, height), layout="constrained")
    return figure, figure.add_subplot()


def headed(figure: Figure, title: str) -> Figure:
    """The figure with its title, which starts at the left edge, whatever the width of the labels."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, weight="bold")
    return figure


def colour_bar(axes: Axes, mesh: QuadMesh, said: str) -> Colorbar:
    """Beside the axes, what the colours of a grid mean; short, as a grid may be high."""
    bar = axes.figure.colorbar(mesh, ax=axes, pad=0.015, aspect=16, shrink=0.5, anchor=(0, 1))
    bar.set_label(said)
    bar.outline.set_visible(False)
    return bar


def short(label: str, most: int = 34) -> str:
    """A label as a figure can hold it: printable, long ones with their middle left out."""
    clean = one_line(label)
    half = most // 2
    return clean if len(clean) <= most else f"{clean[:half]}…{clean[-(most - half - 1) :]}"


def wrapped(label: str, width: int, most: int = 2) -> str:
    """A label in at most ``most`` lines of at most ``width`` letters; what is longer has its middle left out.

    It is broken behind brackets, commas, colons and underscores, or anywhere if it would not fit otherwise.
    """
    clean = short(label, width * most)
    lines = [""]
    for piece in re.findall(r"[^(,:_ ]+[(,:_ ]*|[(,:_ ]+", clean):
        if lines[-1] and len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    lines = [line.rstrip() for line in lines]
    if len(lines) > most or max(map(len, lines)) > width:
        lines = [clean[k : k + width] for k in range(0, len(clean), width)]
    return "\n".join(lines)


def png(figure: Figure) -> bytes:
    """The figure as a file of its own: on white."""
    out = io.BytesIO()
    with styled():
        FigureCanvasAgg(figure)
        figure.savefig(out, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    figure.set_layout_engine(None)  # places are found now; looked for again, those beside a colour bar would creep
    return out.getvalue()


def svg(figure: Figure) -> str:
    """The figure as a file of its own: text stays text, the background is clear."""
    out = io.StringIO()
    with styled():
        FigureCanvasSVG(figure)
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    figure.set_layout_engine(None)
    return out.getvalue()


def inline(text: str, name: str, title: str) -> str:
    """An ``svg`` file's text as an element of a page: ink and grid are the page's, ids begin with the figure's name."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>|<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    for colour, own in ((INK, "currentColor"), (LINE, "var(--line)"), (QUIET, "var(--quiet)"), (PAPER, "var(--paper)")):
        text = text.replace(colour, own)
    text = text.replace("'DejaVu Sans'", "inherit").replace("\n", " ")
    return text.replace("<svg ", f'<svg role="img" aria-label="{_attribute(title)}" ', 1)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def families_legend(figure: Figure, families: Sequence[str], title: str = "") -> None:
    """Below the figure, a legend of the families that occur, in the order of their looks."""
    known = [f for f in [*LOOKS, *sorted(set(families) - set(LOOKS))] if f in set(families)]
    marks = [Line2D([], [], ls="", marker=look(f).marker, color=look(f).colour, ms=6, label=f) for f in known]
    figure.legend(
        handles=marks, loc="outside lower left", ncols=6, handletextpad=0.3, columnspacing=1.2, title=title or None,
        alignment="left", title_fontsize=9,
    )  # fmt: skip


def apart(positions: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Positions moved as little as need be to lie at least ``gap`` apart, in their order, within [low, high].

    Where they do not all fit, the gap shrinks.
    """
    order = np.argsort(positions, kind="stable")
    gap = min(gap, (high - low) / max(len(order) - 1, 1))
    # With k·gap taken off the k-th, "gap apart" reads "not decreasing": a running mean of blocks (isotonic regression).
    offsets = gap * np.arange(len(order))
    blocks: list[tuple[float, int]] = []
    for value in np.asarray(positions, float)[order] - offsets:
        mean, size = value, 1
        while blocks and blocks[-1][0] > mean:
            before, many = blocks.pop()
            mean, size = (before * many + mean * size) / (many + size), many + size
        blocks.append((mean, size))
    level = np.clip(np.repeat([m for m, _ in blocks], [n for _, n in blocks]), low, high - offsets[-1:].sum())
    moved = np.empty(len(order))
    moved[order] = level + offsets
    return moved


def assigned(x: np.ndarray, y: np.ndarray, edge: float, slots: np.ndarray) -> np.ndarray:
    """For each point (x, y) the index of its own slot on the line x = ``edge``, so that no two leader lines cross.

    The lines are the shortest in sum. Two that cross could swap their slots and be shorter, so none do; and as crossing
    does not hang on the axes' scales, none do in whatever shape the axes are drawn.
    """
    from scipy.optimize import linear_sum_assignment

    lengths = np.hypot(edge - np.asarray(x)[:, None], np.asarray(slots)[None] - np.asarray(y)[:, None])
    return linear_sum_assignment(lengths)[1]


def name_points(
    axes: Axes,
    x: np.ndarray,
    y: np.ndarray,
    labels: Sequence[str],
    families: Sequence[str],
    points_per_line: float = 12,
) -> None:
    """Every point's label in a column to the right of the axes, with its mark again and a thin line to its point.

    The axes' limits must be set before; their scales are linear.
    """
    if not len(labels):
        return
    _, height = axes.figure.get_size_inches()
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    across, up = (np.asarray(x) - left) / (right - left), (np.asarray(y) - low) / (high - low)
    slots = apart(up, points_per_line / (72 * height * 0.8), 0, 1)
    for i, at in enumerate(slots[assigned(across, up, 1.02, slots)]):
        how = look(families[i])
        axes.annotate(
            "", (x[i], y[i]), (1.02, at), textcoords="axes fraction", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": QUIET, "shrinkA": 0, "shrinkB": 4},
        )  # fmt: skip
        place = {"transform": axes.transAxes, "clip_on": False}
        axes.plot(1.035, at, how.marker, ms=4.5, color=how.colour, **place)
        axes.text(1.055, at, short(labels[i]), va="center", fontsize=9, **place)
