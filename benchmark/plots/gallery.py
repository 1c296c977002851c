"""Maps as pictures: single tiles for a page, a whole shelf as one figure."""

from __future__ import annotations

import base64
import functools
import io

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from PIL import Image

from unfooled.gallery import Shelf, Tile
from unfooled.maps import min_max
from unfooled.plots.style import INK, QUIET, SKY, short

LEVELS = 64
LARGEST = 96
"""pixels along a tile's side in a page"""


@functools.cache
def palette() -> np.ndarray:
    """uint8 (LEVELS, 3): inferno, whose lightness rises evenly, so that it reads the same in grey."""
    return (colormaps["inferno"](np.linspace(0, 1, LEVELS))[:, :3] * 255).round().astype(np.uint8)


def levels(values: np.ndarray) -> np.ndarray:
    """A map (h, w) on its own scale, least to largest → uint8 levels; what is not finite is the least."""
    scaled = min_max(np.nan_to_num(values, nan=0, posinf=0, neginf=0)[None])[0]
    return np.round(scaled * (LEVELS - 1)).astype(np.uint8)


def map_uri(values: np.ndarray) -> str:
    """A map as a data URI."""
    picture = Image.fromarray(levels(values), "P")
    picture.putpalette(palette().tobytes())
    return _uri(picture)


def image_uri(image: np.ndarray) -> str:
    """An image (h, w, 3) in [0, 1] as a data URI."""
    return _uri(Image.fromarray((image * 255).round().astype(np.uint8)))


def _uri(picture: Image.Image) -> str:
    if max(picture.size) > LARGEST:
        mode = picture.mode
        whole = picture.convert("RGB").resize((LARGEST, LARGEST), Image.Resampling.BOX)
        picture = whole.quantize(128) if mode == "P" else whole
    out = io.BytesIO()
    picture.save(out, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def shelf_figure(shelf: Shelf) -> Figure:
    """A shelf: a row an interpreter, a column a twin, the similarity to the original's map under each map."""
    rows, columns = len(shelf.rows), len(shelf.columns) + 1
    left, top, step = 2.3, 1.45, 1.27
    figure = Figure((0.85 * (left + columns), 0.85 * (top + step * rows)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-left, columns)
    axes.set_ylim(rows * step, -top)
    axes.axis("off")
    title = f"{short(shelf.setting)}, image {shelf.number + 1}: {short(shelf.shows)}"
    axes.text(0.15 - left, 0.15 - top, title, fontweight="bold", fontsize=10.5, va="top")
    note = f"under each map: {short(shelf.measure)} with the original's map; framed: moved away from it"
    axes.text(0.15 - left, 0.42 - top, note, fontsize=8, va="top", color=QUIET)
    _heads(axes, shelf)
    for at, (label, tiles) in enumerate(shelf.rows.items()):
        top = at * step
        axes.text(-0.12, top + 0.45, short(label, 24), ha="right", va="center", fontsize=8.5)
        _picture(axes, shelf.image, 0, top)
        for column, tile in enumerate(tiles, 1):
            _draw_tile(axes, tile, column, top)
    return figure


def _heads(axes: Axes, shelf: Shelf) -> None:
    for at, head in enumerate(["image", *(c.title.replace(" against ", "\nagainst\n") for c in shelf.columns)]):
        lines = "\n".join(short(line, 15) for line in head.split("\n"))
        axes.text(at + 0.45, -0.15, lines, ha="center", va="bottom", fontsize=7.5, linespacing=1.1)


def _picture(axes: Axes, picture: np.ndarray, x: float, y: float) -> None:
    # As imshow does, without its bookkeeping of limits, which hundreds of tiles would each pay for.
    tile = AxesImage(axes, extent=(x, x + 0.9, y + 0.9, y), interpolation="nearest")
    tile.set_data(picture)
    axes.add_artist(tile)


def _draw_tile(axes: Axes, tile: Tile, x: float, y: float) -> None:
    if tile.map is None:
        axes.text(x + 0.45, y + 0.45, "–", ha="center", va="center", color=QUIET)
        return
    _picture(axes, palette()[levels(tile.map)], x, y)
    if tile.verdict == "moved":
        axes.add_patch(Rectangle((x - 0.035, y - 0.035), 0.97, 0.97, fill=False, ec=SKY, lw=2.4))
    number = f"{tile.similarity:.2f}".replace("-", "−") if np.isfinite(tile.similarity) else "–"
    said = f"{number} {tile.verdict}".strip()
    axes.text(
        x + 0.45, y + 0.95, said, ha="center", va="top", fontsize=7, color=INK,
        fontweight="bold" if tile.verdict == "moved" else "normal",
    )  # fmt: skip
