"""Similarities of structure: of local means, variances and covariances (SSIM), and of local edges (HOG)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unfooled.maps import min_max
from unfooled.metrics.base import Similarity, State, standardised
from unfooled.types import Maps, Scores

_TILE = 32
"""Rows or columns that one banded product of a filter yields: larger ones multiply more zeros, smaller ones are slow."""


@dataclass(frozen=True)
class SSIM(Similarity):
    """Mean structural similarity (Wang et al. 2004) of maps scaled to [0, 1] by their own least and largest value.

    (2 μa μb + C1)(2 σab + C2) / ((μa² + μb² + C1)(σa² + σb² + C2)), C1 = 0.01², C2 = 0.03², averaged over all places
    where the window lies inside the map. ``gaussian`` is the paper's 11 x 11 window of σ = 1.5 with population moments;
    ``uniform`` is 7 x 7 with sample moments, scikit-image's default. In [-1, 1], symmetric, unchanged by a·map + b with
    a > 0. Does its own scaling. Maps must be at least as large as the window.
    """

    window: Literal["gaussian", "uniform"] = "gaussian"

    def __post_init__(self) -> None:
        if self.window not in ("gaussian", "uniform"):
            raise ValueError(f"SSIM: window={self.window!r}; it must be 'gaussian' or 'uniform'")

    @property
    def smallest(self) -> int:
        return len(self._taps)

    def _state(self, maps: Maps) -> State:
        """(n, 3, h, w): the scaled map, and at each window's centre the mean and the variance in it."""
        scaled = min_max(maps.astype(np.float64))
        state = np.zeros((len(maps), 3, *maps.shape[1:]))
        state[:, 0] = scaled
        inner = self._inner(maps.shape)
        mean = filtered(scaled, self._taps)
        state[:, 1][inner] = mean
        state[:, 2][inner] = self._correction * (filtered(scaled * scaled, self._taps) - mean * mean)
        return state

    def _similarity(self, a: State, b: State) -> Scores:
        inner = self._inner(a[:, 0].shape)
        mean_a, mean_b, var_a, var_b = a[:, 1][inner], b[:, 1][inner], a[:, 2][inner], b[:, 2][inner]
        product = mean_a * mean_b
        covariance = self._correction * (filtered(a[:, 0] * b[:, 0], self._taps) - product)
        above = (2 * product + 0.01**2) * (2 * covariance + 0.03**2)
        below = (mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2)
        return (above / below).mean((1, 2))

    @property
    def _taps(self) -> np.ndarray:
        if self.window == "uniform":
            return np.full(7, 1 / 7)
        weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
        return weights / weights.sum()

    @property
    def _correction(self) -> float:
        return 49 / 48 if self.window == "uniform" else 1.0

    def _inner(self, shape: tuple[int, ...]) -> tuple[slice, slice, slice]:
        margin = self.smallest // 2
        return slice(None), slice(margin, shape[1] - margin), slice(margin, shape[2] - margin)


def filtered(fields: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """(n, h, w) weighted by taps x taps wherever these lie inside: (n, h - t + 1, w - t + 1) for t taps.

    Products with a banded matrix, a tile at a time, which a matrix library does faster than sums of shifted fields.
    """
    n, height, width = fields.shape
    margin = len(taps) - 1
    band = _band(taps)
    rows = np.empty((n, height - margin, width))
    for out, source, b in _tiles(height - margin, margin):
        rows[:, out] = band[b[0], b[1]] @ fields[:, source]
    result = np.empty((n, height - margin, width - margin))
    for out, source, b in _tiles(width - margin, margin):
        result[:, :, out] = rows[:, :, source] @ band[b[0], b[1]].T
    return result


def _band(taps: np.ndarray) -> np.ndarray:
    band = np.zeros((_TILE, _TILE + len(taps) - 1))
    for row in range(_TILE):
        band[row, row : row + len(taps)] = taps
    return band


def _tiles(length: int, margin: int) -> Iterator[tuple[slice, slice, tuple[slice, slice]]]:
    """Where a tile's results go, what they are made of, and the part of the band that makes them."""
    for start in range(0, length, _TILE):
        size = min(_TILE, length - start)
        yield slice(start, start + size), slice(start, start + size + margin), (slice(size), slice(size + margin))


@dataclass(frozen=True)
class HOG(Similarity):
    """Pearson's correlation of histograms of oriented gradients (Dalal and Triggs 2005), after Adebayo et al. (2018).

    Maps are scaled to [0, 1] by their own least and largest value; central differences, zero at the border; unsigned
    orientations; cells of height / cells by width / cells pixels, rounded down to even and at least 2, what is left over
    at the right and at the bottom unused; overlapping blocks of block x block cells, L2-Hys. In [-1, 1], symmetric,
    unchanged by a·map + b with a > 0. Does its own scaling. Maps must hold 2 x block pixels each way. A map whose
    histograms are all alike is 1 to another such map and 0 to all others.
    """

    orientations: int = 9
    cells: int = 8
    block: int = 3

    def __post_init__(self) -> None:
        if min(self.orientations, self.cells, self.block) < 1 or self.block > self.cells:
            raise ValueError(f"{self}: all must be at least 1, and block at most cells")

    @property
    def smallest(self) -> int:
        return 2 * self.block

    def _state(self, maps: Maps) -> State:
        blocks = np.lib.stride_tricks.sliding_window_view(self._histograms(maps), (self.block, self.block), axis=(1, 2))
        vectors = blocks.transpose(0, 1, 2, 4, 5, 3).reshape(*blocks.shape[:3], -1)
        vectors = _normalised(np.minimum(_normalised(vectors), 0.2))
        return standardised(vectors.reshape(len(maps), -1))

    def _histograms(self, maps: Maps) -> np.ndarray:
        """(n, cell rows, cell columns, orientations): mean gradient per orientation."""
        side = [max(2, extent // self.cells // 2 * 2) for extent in maps.shape[1:]]
        rows, columns = (extent // s for extent, s in zip(maps.shape[1:], side, strict=True))
        region = slice(None), slice(rows * side[0]), slice(columns * side[1])
        down, right = _differences(min_max(maps.astype(np.float64)))
        down, right = down[region], right[region]
        cell = np.arange(rows * side[0])[:, None] // side[0] * columns + np.arange(columns * side[1]) // side[1]
        cell = cell + np.arange(len(maps))[:, None, None] * (rows * columns)
        index = cell * (self.orientations + 1) + _orientation(down, right, self.orientations)
        size = np.sqrt(down * down + right * right)
        total = np.bincount(index.ravel(), size.ravel(), len(maps) * rows * columns * (self.orientations + 1))
        total = total.reshape(len(maps), rows, columns, -1)
        total[..., 0] += total[..., -1]
        return total[..., :-1] / (side[0] * side[1])


def _differences(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    down, right = np.zeros_like(values), np.zeros_like(values)
    np.subtract(values[:, 2:], values[:, :-2], out=down[:, 1:-1])
    np.subtract(values[:, :, 2:], values[:, :, :-2], out=right[:, :, 1:-1])
    return down, right


def _orientation(down: np.ndarray, right: np.ndarray, orientations: int) -> np.ndarray:
    """Which of the equal parts of [0, 180) degrees a gradient's angle lies in; ``orientations`` also stands for 0.

    The cotangent right / down falls as the angle grows, so counting the parts' cotangents that it does not exceed
    needs no arctangent. A horizontal gradient is +inf (part 0) or -inf, which is the same direction.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        cotangent = right / down
    angles = np.pi * np.arange(1, orientations) / orientations
    # Rounded so that 45 and 135 degrees, frequent in maps of few values, are exactly 1 and -1.
    part = np.zeros(down.shape, dtype=np.int8)
    for bound in np.round(np.cos(angles) / np.sin(angles), 12):
        part += cotangent <= bound
    part += cotangent == -np.inf
    return part


def _normalised(blocks: np.ndarray) -> np.ndarray:
    return blocks / np.sqrt(np.square(blocks).sum(-1, keepdims=True) + 1e-5**2)
