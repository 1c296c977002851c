"""Chunks of scenes as pixels: silhouettes and distractors painted on crops, under one light."""

from __future__ import annotations

import numpy as np

from unfooled.datasets.backgrounds import crops
from unfooled.datasets.silhouettes import SILHOUETTES, box

CHUNK = 250
"""Images that share a random stream. A chunk is always drawn whole: a longer split only adds to a shorter one."""

_BLOB, _LINE, _CUT = range(3)
_REACH = {_BLOB: (0.04, 0.07), _LINE: (0.15, 0.45), _CUT: (0.15, 0.3)}
"""Distractor → its least and largest radius, in sides of the image."""


def uniform(stream: np.random.Generator, low: float, high: float, *shape: int) -> np.ndarray:
    """A chunk's draws from [low, high): float32 (CHUNK, *shape)."""
    return (low + (high - low) * stream.random((CHUNK, *shape))).astype(np.float32)


def render(
    stream: np.random.Generator, bank: dict[int, np.ndarray], labels: np.ndarray, places: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """One chunk of images (CHUNK, 3, size, size), and masks (CHUNK, objects, size, size), True where an object is.

    ``labels`` (CHUNK, objects), ``places`` (CHUNK, objects, 4): x and y of the centre and the radius in pixels, the
    angle. The objects lie above the distractors. All but their outlines depends on the stream and the bank alone.
    """
    ground, texture = (crops(bank, stream, CHUNK, size) for _ in range(2))
    mean = ground.mean((1, 2), keepdims=True)
    canvas = mean + (ground - mean) * uniform(stream, 0.2, 0.6, 1, 1, 1)
    objects = [object_coverage(labels[:, i], places[:, i], size) for i in range(labels.shape[1])]
    for cover in [*(_distractor_coverage(stream, size, kind) for kind in _REACH), *objects]:
        canvas = canvas + cover[..., None] * (_paint(stream, texture, ground) - canvas)
    lit = np.clip(canvas * _light(stream, size), 0, 1)
    images = np.round(lit * 255).astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), np.stack(objects, 1) > 0.5


def object_coverage(labels: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
    """How much of each pixel an object covers, from labels (n,) and places (n, 4): (n, size, size) in [0, 1]."""
    x, y = _frames(places, size)
    distance = np.empty_like(x)
    for label, shape in enumerate(SILHOUETTES.values()):
        rows = labels == label
        distance[rows] = shape(x[rows], y[rows])
    return _coverage(distance, places[:, 2])


def _frames(places: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres in the frame of an object at ``places`` (n, 4), in units of its radius: two (n, size, size)."""
    x0, y0, radius, angle = places.T[:, :, None, None]
    centres = np.arange(size, dtype=np.float32) + np.float32(0.5)
    dx, dy = centres[None, None, :] - x0, y0 - centres[None, :, None]
    # Sine and cosine in float64: numpy's float32 ones differ in the last bit from machine to machine.
    cos, sin = (f(angle.astype(np.float64)).astype(np.float32) / radius for f in (np.cos, np.sin))
    return dx * cos + dy * sin, dy * cos - dx * sin


def _coverage(distance: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """From the signed distance of a pixel's centre: a straight edge half a pixel away just touches it."""
    return np.clip(np.float32(0.5) - distance * radius[:, None, None], 0, 1)


def _distractor_coverage(stream: np.random.Generator, size: int, kind: int) -> np.ndarray:
    """A blob smaller than any object, a line, or an ellipse that the border cuts, in half of the images."""
    side = np.float32(size)
    x, y, angle = uniform(stream, 0, 1) * side, uniform(stream, 0, 1) * side, uniform(stream, 0, 2 * np.pi)
    radius = uniform(stream, *_REACH[kind]) * side
    if kind == _CUT:  # its centre lies beyond the upper or lower border, so that it is never a whole disc
        y = np.where(y < side / 2, np.float32(-0.3) * radius, side + np.float32(0.3) * radius)
    across, along = _frames(np.stack([x, y, radius, angle], -1), size)
    distance = box(across, along, 1, 0.05) if kind == _LINE else np.hypot(across, along * np.float32(1.4)) - 1
    return _coverage(distance, radius) * (uniform(stream, 0, 1, 1, 1) < 0.5)


def _light(stream: np.random.Generator, size: int) -> np.ndarray:
    """A brightness that falls off in one direction, with a tint: (CHUNK, size, size, 3) about 1."""
    middle = np.full(CHUNK, size / 2, np.float32)
    along, _ = _frames(np.stack([middle, middle, middle, uniform(stream, 0, 2 * np.pi)], -1), size)
    slope = along * uniform(stream, 0, 0.3, 1, 1)
    return (1 + slope)[..., None] * uniform(stream, 0.88, 1.12, 1, 1, 3)


def _paint(stream: np.random.Generator, texture: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """The texture in a colour that stands out from the ground's mean brightness: (CHUNK, size, size, 3)."""
    mean = ground.mean((1, 2, 3), keepdims=True)
    step = uniform(stream, 0.3, 0.5, 1, 1, 1)
    # Darker or brighter at random, unless there is no room on that side.
    brightness = np.where(uniform(stream, 0.25, 0.75, 1, 1, 1) < mean, mean - step, mean + step)
    grain = (texture - texture.mean((1, 2, 3), keepdims=True)) * uniform(stream, 0.2, 0.6, 1, 1, 1)
    tint = uniform(stream, -0.2, 0.2, 1, 1, 3)
    return brightness + grain + tint - tint.mean(-1, keepdims=True)
