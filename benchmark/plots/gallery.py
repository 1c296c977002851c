"""Maps as pictures: single tiles for a page, a whole shelf as one file."""

from __future__ import annotations

import base64
import functools
import io
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from unfooled.gallery import Shelf, Tile
from unfooled.maps import min_max
from unfooled.plots.style import DPI, INK, QUIET, SKY, short, wrapped

LEVELS = 64
LARGEST = 96
"""pixels along a tile's side in a page"""
UNIT, TILE = round(0.85 * DPI), 0.9
"""pixels of a column in a file, 0.85 inches; and the share of it that a map fills"""


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
    return _uri(Image.fromarray(_bytes(image)))


def _bytes(image: np.ndarray) -> np.ndarray:
    return (image * 255).round().astype(np.uint8)


def _uri(picture: Image.Image) -> str:
    if max(picture.size) > LARGEST:
        mode = picture.mode
        whole = picture.convert("RGB").resize((LARGEST, LARGEST), Image.Resampling.BOX)
        picture = whole.quantize(128) if mode == "P" else whole
    out = io.BytesIO()
    picture.save(out, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


@dataclass(frozen=True)
class _Sheet:
    """A picture that is drawn on in units of a column, from the left upper corner of the first tile."""

    picture: Image.Image
    origin: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[int, int]:
        return round((self.origin[0] + x) * UNIT), round((self.origin[1] + y) * UNIT)

    def text(self, x: float, y: float, words: str, anchor: str, points: float, bold: bool = False, ink: str = INK):
        draw = ImageDraw.Draw(self.picture)
        draw.multiline_text(self.at(x, y), words, ink, _font(points, bold), anchor, spacing=2, align="center")

    def tile(self, x: float, y: float, pixels: np.ndarray) -> None:
        """A small picture, uint8 (h, w, 3), as large as a tile."""
        side = (round(TILE * UNIT), round(TILE * UNIT))
        self.picture.paste(Image.fromarray(pixels).resize(side, Image.Resampling.NEAREST), self.at(x, y))

    def frame(self, x: float, y: float) -> None:
        """A frame around the tile there."""
        far = self.at(x + TILE + 0.035, y + TILE + 0.035)
        ImageDraw.Draw(self.picture).rectangle((*self.at(x - 0.035, y - 0.035), *far), outline=SKY, width=5)


@functools.cache
def _font(points: float, bold: bool) -> ImageFont.FreeTypeFont:
    """The face of all figures, which comes with matplotlib."""
    face = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    return ImageFont.truetype(str(face), points * DPI / 72)


def shelf_picture(shelf: Shelf) -> Image.Image:
    """A shelf: a row an interpreter, a column a twin, the similarity to the original's map under each map."""
    rows, columns = len(shelf.rows), len(shelf.columns) + 1
    left, top, step = 2.3, 1.45, 1.27
    size = (round(UNIT * (left + columns)), round(UNIT * (top + step * rows)))
    sheet = _Sheet(Image.new("RGB", size, "white"), (left, top))
    title = f"{short(shelf.setting)}, {shelf.picture}: {short(shelf.shows)}"
    sheet.text(0.15 - left, 0.15 - top, title, "la", 10.5, bold=True)
    note = f"under each map: {short(shelf.measure)} with the original's map; framed: moved away from it"
    sheet.text(0.15 - left, 0.42 - top, note, "la", 8, ink=QUIET)
    for at, head in enumerate(["image", *(c.title.replace(" against ", "\nagainst\n") for c in shelf.columns)]):
        lines = "\n".join(wrapped(line, 15) for line in head.split("\n"))
        sheet.text(at + TILE / 2, -0.1, lines, "md", 7)
    image = _bytes(shelf.image)
    for at, (label, tiles) in enumerate(shelf.rows.items()):
        y = at * step
        sheet.text(-0.12, y + TILE / 2, wrapped(label, 24), "rm", 8.5)
        sheet.tile(0, y, image)
        for x, tile in enumerate(tiles, 1):
            _draw_tile(sheet, tile, x, y)
    return sheet.picture


def _draw_tile(sheet: _Sheet, tile: Tile, x: float, y: float) -> None:
    if tile.map is None:
        sheet.text(x + TILE / 2, y + TILE / 2, "–", "mm", 8.5, ink=QUIET)
        return
    moved = tile.verdict == "moved"
    sheet.tile(x, y, palette()[levels(tile.map)])
    if moved:
        sheet.frame(x, y)
    number = f"{tile.similarity:.2f}".replace("-", "−") if np.isfinite(tile.similarity) else "–"
    sheet.text(x + TILE / 2, y + TILE + 0.07, f"{number} {tile.verdict}".strip(), "ma", 7, bold=moved)


def png(picture: Image.Image) -> bytes:
    """The picture as a file of its own; its few colours and large areas need little effort to be small."""
    out = io.BytesIO()
    picture.save(out, format="PNG", compress_level=3)
    return out.getvalue()
