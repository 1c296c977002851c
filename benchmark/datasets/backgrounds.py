"""Crops of photographs and textures that scikit-image's wheel carries, cut into regions that no two splits share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

from unfooled.types import DataError, SplitName

PICTURES = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "ihc", "motorcycle_left")
"""Lossless files only, so that every machine decodes the same pixels; the coins are left out, for they show a class."""

SCALES = (1, 2, 3)
"""A crop shows one, two or three pictures' pixels a pixel."""

_FIFTHS: tuple[SplitName, ...] = ("train", "train", "train", "tune", "test")


@dataclass(frozen=True, slots=True)
class Region:
    """A square of one picture that belongs to one split alone."""

    picture: str
    split: SplitName
    top: int
    left: int
    side: int


def regions(picture: str, height: int, width: int, side: int) -> Iterator[Region]:
    """The picture's squares of ``side`` pixels: three fifths train, a fifth tune, a fifth test, spread over it."""
    shift = PICTURES.index(picture)
    for row in range(height // side):
        for column in range(width // side):
            # A step of two columns a row: neighbours differ and every split sees every part of the picture.
            split = _FIFTHS[(row + 2 * column + shift) % len(_FIFTHS)]
            yield Region(picture, split, row * side, column * side, side)


def picture(name: str) -> np.ndarray:
    """One of PICTURES, float32 (h, w, 3) in [0, 1]. Raises DataError where scikit-image came without it."""
    path = Path(skimage.__file__).parent / "data" / f"{name}.png"
    if not path.is_file():
        raise DataError(f"scenes: scikit-image came without its picture {path.name!r}; install its wheel, >= 0.22")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.float32) / 255


def bank(split: SplitName, size: int) -> dict[int, np.ndarray]:
    """Scale → the split's regions of 3 · size pixels, averaged down by that scale: float32 (regions, h, h, 3)."""
    side = max(SCALES) * size
    whole = []
    for name in PICTURES:
        pixels = picture(name)
        for region in regions(name, *pixels.shape[:2], side):
            if region.split == split:
                whole.append(pixels[region.top : region.top + side, region.left : region.left + side])
    return {scale: _shrink(np.stack(whole), scale) for scale in SCALES}


def _shrink(images: np.ndarray, scale: int) -> np.ndarray:
    side = images.shape[1] // scale
    return images[:, : side * scale, : side * scale].reshape(-1, side, scale, side, scale, 3).mean((2, 4))


def crops(regions_of: dict[int, np.ndarray], stream: np.random.Generator, count: int, size: int) -> np.ndarray:
    """``count`` random crops of a bank, flipped at random: float32 (count, size, size, 3)."""
    draws = stream.random((count, 6))
    out = np.empty((count, size, size, 3), np.float32)
    chosen = (draws[:, 0] * len(SCALES)).astype(int)
    for index, scale in enumerate(SCALES):
        rows = np.flatnonzero(chosen == index)
        out[rows] = _cut(regions_of[scale], draws[rows, 1:], size)
    return out


def _cut(images: np.ndarray, draws: np.ndarray, size: int) -> np.ndarray:
    room = images.shape[1] - size + 1
    tile = (draws[:, 0] * len(images)).astype(int)
    steps = [np.where(flip[:, None] < 0.5, np.arange(size), np.arange(size)[::-1]) for flip in draws[:, 3:5].T]
    down, right = ((start * room).astype(int)[:, None] + s for start, s in zip(draws[:, 1:3].T, steps, strict=True))
    return images[tile[:, None, None], down[:, :, None], right[:, None, :]]
