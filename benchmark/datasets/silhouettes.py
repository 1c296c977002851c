"""Ten silhouettes as signed distances: negative inside, positive outside, in units of the silhouette's radius."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Field = np.ndarray
"""A scalar per pixel, float32, any shape."""

Silhouette = Callable[[Field, Field], Field]
"""(x, y) in the object's own frame, where it fills the unit disc → signed distance: exact beside straight edges and
arcs, a lower bound at corners, which is all that anti-aliasing of one pixel needs."""


def half_planes(x: Field, y: Field, degrees: tuple[float, ...], reach: float) -> Field:
    """Distances to lines ``reach`` from the origin whose outward normals point to ``degrees``: (lines, *x.shape)."""
    angles = np.radians(degrees)
    return np.stack([np.float32(np.cos(a)) * x + np.float32(np.sin(a)) * y - reach for a in angles])


def box(x: Field, y: Field, width: float, height: float) -> Field:
    """A rectangle about the origin; width and height are half sides."""
    return np.maximum(np.abs(x) - width, np.abs(y) - height)


def disc(x: Field, y: Field) -> Field:
    return np.hypot(x, y) - 0.9


def square(x: Field, y: Field) -> Field:
    return box(x, y, 0.7, 0.7)


def triangle(x: Field, y: Field) -> Field:
    return half_planes(x, y, (30, 150, 270), 0.5).max(0)


def star(x: Field, y: Field) -> Field:
    """Five points: a pentagram is where at most one of its five half-planes is violated."""
    lines = half_planes(x, y, (54, 126, 198, 270, 342), float(np.cos(np.radians(72))))
    return np.sort(lines, axis=0)[-2]


def cross(x: Field, y: Field) -> Field:
    return np.minimum(box(x, y, 0.95, 0.27), box(x, y, 0.27, 0.95))


def ring(x: Field, y: Field) -> Field:
    return np.abs(np.hypot(x, y) - 0.75) - 0.22


def crescent(x: Field, y: Field) -> Field:
    return np.maximum(np.hypot(x, y) - 0.98, 0.8 - np.hypot(x - 0.5, y))


def heart(x: Field, y: Field) -> Field:
    """A square on its corner and a disc on each of its upper sides."""
    half = 0.56
    y = y + np.float32(0.2)  # its smallest circle about the origin
    u, v = (x + y) * np.float32(0.5**0.5), (x - y) * np.float32(0.5**0.5)
    lobes = np.minimum(np.hypot(u - half, v), np.hypot(u, v + half)) - half
    return np.minimum(box(u, v, half, half), lobes)


def arrow(x: Field, y: Field) -> Field:
    head = np.maximum(half_planes(x, y - 0.2, (40, 140), 0.5).max(0), 0.02 - y)
    return np.minimum(head, box(x, y + 0.45, 0.22, 0.5))


def hourglass(x: Field, y: Field) -> Field:
    waist = (np.abs(x) - 0.75 * np.abs(y) - 0.06) * np.float32(0.8)  # 0.8: the slope's cosine
    return np.maximum(waist, np.abs(y) - 0.76)


SILHOUETTES: dict[str, Silhouette] = {
    shape.__name__: shape for shape in (disc, square, triangle, star, cross, ring, crescent, heart, arrow, hourglass)
}
"""Class name → silhouette; the order is the labels' order."""
