"""How far the most important pixels of two maps are the same ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unfooled.metrics.base import Similarity, State, flat
from unfooled.types import Maps, Scores


@dataclass(frozen=True)
class TopK(Similarity):
    """The share of the k largest pixels of one map that are among the k largest of the other (Ghorbani et al. 2019).

    k = max(1, round(fraction · pixels)). Among equal pixels those of lower index, row by row, come first. In [0, 1],
    k / pixels by chance, symmetric, unchanged by any strictly increasing change of values. Needs no scaling. Raises
    ValueError unless 0 < fraction <= 1.
    """

    fraction: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(f"TopK: fraction={self.fraction}; it must be above 0 and at most 1")

    def count(self, pixels: int) -> int:
        """How many pixels are k."""
        return max(1, round(self.fraction * pixels))

    def _state(self, maps: Maps) -> State:
        values = flat(maps)
        return top_mask(values, self.count(values.shape[1])).astype(np.float32)

    def _similarity(self, a: State, b: State) -> Scores:
        shared = np.einsum("ij,ij->i", a, b).astype(np.float64)  # sums of ones: exact in float32 below 2**24
        return shared / self.count(a.shape[1])


def top_mask(values: np.ndarray, k: int) -> np.ndarray:
    """bool (n, pixels): True at each row's k largest values, the first ones among equals."""
    pixels = values.shape[1]
    least = np.partition(values, pixels - k, axis=1)[:, pixels - k, None]
    mask = values >= least
    crowded = np.count_nonzero(mask, axis=1) > k
    if crowded.any():
        mask[crowded] = _first_among_equals(values[crowded], least[crowded], k)
    return mask


def _first_among_equals(values: np.ndarray, least: np.ndarray, k: int) -> np.ndarray:
    above, equal = values > least, values == least
    room = k - np.count_nonzero(above, axis=1)[:, None]
    return above | (equal & (np.cumsum(equal, axis=1) <= room))
