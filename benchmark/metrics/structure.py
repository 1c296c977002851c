"""Similarities of structure: of local means, variances and covariances (SSIM), and of local edges (HOG)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unfooled.maps import min_max
from unfooled.metrics.base import Similarity, State, flat, standardised
from unfooled.types import Maps, Scores

_TILE = 16
"""Rows or columns that one banded product of a filter yields: more multiply more zeros, fewer need more calls."""


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
        state = np.zeros((len(maps), 3, *maps.shape[1:]))
        scaled, mean, variance = self._parts(state)
        scaled[...] = min_max(maps.astype(np.float64))
        mean[...] = filtered(scaled, self._taps)
        variance[...] = self._covariance(scaled * scaled, mean * mean)
        return state

    def _similarity(self, a: State, b: State) -> Scores:
        (map_a, mean_a, var_a), (map_b, mean_b, var_b) = self._parts(a), self._parts(b)
        product = mean_a * mean_b
        covariance = self._covariance(map_a * map_b, product)
        above = (2 * product + 0.01**2) * (2 * covariance + 0.03**2)
        below = (mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2)
        return flat(above / below).mean(1)

    def _covariance(self, product: np.ndarray, product_of_means: np.ndarray) -> np.ndarray:
        covariance = filtered(product, self._taps)
        covariance -= product_of_means
        if self.window == "uniform":
            covariance *= 49 / 48
        return covariance

    def _parts(self, state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Views of the maps, the means and the variances."""
        height, width = state.shape[2:]
        margin = self.smallest // 2
        inner = state[:, 1:, margin : height - margin, margin : width - margin]
        return state[:, 0], inner[:, 0], inner[:, 1]

    @property
    def _taps(self) -> np.ndarray:
        if self.window == "uniform":
            return np.full(7, 1 / 7)
        weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
        return weights / weights.sum()


def filtered(fields: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """(n, h, w) weighted by taps x taps wherever these lie inside: (n, h - t + 1, w - t + 1) for t taps.

    Products with a banded matrix, a tile at a time, which a matrix library does faster than sums of shifted fields.
    """
    n, height, width = fields.shape
    margin = len(taps) - 1
    band = np.array([np.concatenate([np.zeros(i), taps, np.zeros(_TILE - 1 - i)]) for i in range(_TILE)])
    across = np.ascontiguousarray(band.T)
    rows = np.empty((n, height - margin, width))
    for start, size in _tiles(height - margin):
        source = fields[:, start : start + size + margin]
        np.matmul(band[:size, : size + margin], source, out=rows[:, start : start + size])
    result = np.empty((n, height - margin, width - margin))
    for start, size in _tiles(width - margin):
        source = rows[:, :, start : start + size + margin]
        np.matmul(source, across[: size + margin, :size], out=result[:, :, start : start + size])
    return result


def _tiles(length: int) -> Iterator[tuple[int, int]]:
    return ((start, min(_TILE, length - start)) for start in range(0, length, _TILE))


@dataclass(frozen=True)
class HOG(Similarity):
    """Pearson's correlation of histograms of oriented gradients (Dalal and Triggs 2005), after Adebayo et al. (2018).

    Maps are scaled to [0, 1] by their own least and largest value; central differences, zero at the border; unsigned
    orientations; cells of height / cells by width / cells pixels, rounded down to even and at least 2, what is left
    over at the right and at the bottom unused; overlapping blocks of block x block cells, L2-Hys. In [-1, 1],
    symmetric, unchanged by a·map + b with a > 0. Does its own scaling. Maps must have 2 x block pixels each way. A map
    without gradients in these cells is 1 to another such map and 0 to all others.
    """

    orientations: int = 9
    cells: int = 8
    block: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.orientations <= 180:
            raise ValueError(f"HOG: orientations={self.orientations}; it must be 1 to 180")
        if not 1 <= self.block <= self.cells:
            raise ValueError(f"HOG: block={self.block}, cells={self.cells}; it must be 1 <= block <= cells")

    @property
    def smallest(self) -> int:
        return 2 * self.block

    def _state(self, maps: Maps) -> State:
        blocks = np.lib.stride_tricks.sliding_window_view(self._histograms(maps), (self.block, self.block), axis=(1, 2))
        vectors = blocks.transpose(0, 1, 2, 4, 5, 3).reshape(*blocks.shape[:3], np.prod(blocks.shape[3:]))
        vectors = _normalised(np.minimum(_normalised(vectors), 0.2))
        return standardised(vectors.reshape(len(maps), np.prod(vectors.shape[1:])))

    def _histograms(self, maps: Maps) -> np.ndarray:
        """(n, cell rows, cell columns, orientations): gradient per pixel of a cell and orientation."""
        side = [max(2, extent // self.cells // 2 * 2) for extent in maps.shape[1:]]
        rows, columns = (extent // s for extent, s in zip(maps.shape[1:], side, strict=True))
        down, right = (
            d[:, : rows * side[0], : columns * side[1]] for d in _differences(min_max(maps.astype(np.float64)))
        )
        cell = np.arange(len(maps) * rows * columns).reshape(-1, rows, columns)
        index = cell.repeat(side[0], axis=1).repeat(side[1], axis=2) * (self.orientations + 1)
        index += _orientation(down, right, self.orientations)
        votes = np.bincount(index.ravel(), _length(down, right).ravel(), cell.size * (self.orientations + 1))
        votes = votes.reshape(*cell.shape, self.orientations + 1)
        votes[..., 0] += votes[..., -1]
        return votes[..., :-1] / (side[0] * side[1])


def _differences(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    down, right = np.zeros_like(values), np.zeros_like(values)
    np.subtract(values[:, 2:], values[:, :-2], out=down[:, 1:-1])
    np.subtract(values[:, :, 2:], values[:, :, :-2], out=right[:, :, 1:-1])
    return down, right


def _length(down: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.sqrt(down * down + right * right)


def _orientation(down: np.ndarray, right: np.ndarray, orientations: int) -> np.ndarray:
    """Which of the equal parts of [0, 180) degrees a gradient's angle lies in; ``orientations`` also stands for 0.

    The cotangent right / down falls as the angle grows, so counting the parts' cotangents that it does not exceed
    needs no arctangent. A horizontal gradient is +inf (part 0) or -inf, which is the same direction.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        cotangent = right / down
    part = np.zeros(down.shape, dtype=np.uint8)
    for angle in np.pi * np.arange(1, orientations) / orientations:
        bound = np.cos(angle) / np.sin(angle)
        # Maps of few values meet 45 and 135 degrees often: rounding must not decide which part these are in.
        part += cotangent <= bound + 1e-9 * (1 + abs(bound))
    part += cotangent == -np.inf
    return part


def _normalised(blocks: np.ndarray) -> np.ndarray:
    return blocks / np.sqrt(np.square(blocks).sum(-1, keepdims=True) + 1e-5**2)
