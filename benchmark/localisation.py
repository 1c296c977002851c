"""Do maps lie on the object? Mass inside its mask, and the pointing game."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from unfooled.maps import says_nothing
from unfooled.types import Maps


def mass(maps: Maps, masks: np.ndarray) -> np.ndarray:
    """(n,) in [0, 1]: the share of Σ|map| inside the mask; maps (n, h, w), masks bool (n, h, w).

    A silent map lies nowhere and gets 0. Chance, a map that is even everywhere, gets the mask's share of the image.
    """
    silent = says_nothing(maps)
    weight = np.where(silent[:, None, None], 0, np.abs(maps)).astype(np.float64)
    total = weight.sum((1, 2))
    return (weight * masks).sum((1, 2)) / np.where(total > 0, total, 1)


def pointing(maps: Maps, masks: np.ndarray, tolerance: int = 1) -> np.ndarray:
    """(n,) in [0, 1]: is the largest pixel of |map| inside the mask, widened by ``tolerance`` pixels to every side?

    The pointing game of Zhang et al. 2018, whose tolerance of 15 belongs to photographs of 500 pixels. Where several
    pixels are equally large it is the share of them that hit; a silent map points nowhere and gets 0.
    """
    widened = ndimage.binary_dilation(masks, np.ones((1, 2 * tolerance + 1, 2 * tolerance + 1), bool))
    loud = ~says_nothing(maps)
    size = np.abs(np.where(loud[:, None, None], maps, 0))
    largest = size == size.max((1, 2), keepdims=True)
    return np.where(loud, (largest & widened).sum((1, 2)) / largest.sum((1, 2)), 0.0)


def figures(maps: Maps, masks: np.ndarray) -> np.ndarray:
    """(2, n): mass and pointing."""
    return np.stack([mass(maps, masks), pointing(maps, masks)])


def by_name(names: Sequence[str], placed: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
    """name → (2, n): the figures of its place; where several have one name (draws of a random network), their mean."""
    found: dict[str, list[np.ndarray]] = {}
    for place, name in enumerate(names):
        found.setdefault(name, []).append(placed[place])
    return {name: np.mean(values, 0) for name, values in found.items()}


def summary(chunks: Sequence[dict[str, np.ndarray]]) -> dict[str, dict[str, float]]:
    """name → ``mass`` and ``pointing``, means over the images of all chunks, rounded to 4 digits."""
    names = chunks[0] if chunks else ()
    means = {name: np.concatenate([c[name] for c in chunks], 1).mean(1) for name in names}
    return {n: {"mass": round(float(m), 4), "pointing": round(float(p), 4)} for n, (m, p) in means.items()}
