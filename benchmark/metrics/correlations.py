"""Similarities of pixels with pixels of the same place: correlations, the cosine and the mean squared error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unfooled.maps import min_max
from unfooled.metrics.base import Similarity, State, flat, standardised, unit
from unfooled.metrics.ranks import standardised_ranks
from unfooled.types import Maps, Scores


@dataclass(frozen=True)
class Spearman(Similarity):
    """Pearson's correlation of the pixels' ranks, tied pixels sharing their average rank (Spearman 1904).

    In [-1, 1], symmetric, unchanged by any strictly increasing change of values. Needs no scaling.
    """

    def _state(self, maps: Maps) -> State:
        return standardised_ranks(maps)


@dataclass(frozen=True)
class Pearson(Similarity):
    """Pearson's correlation of the pixels: their covariance over the product of their standard deviations.

    In [-1, 1], symmetric, unchanged by a·map + b with a > 0. Needs no scaling.
    """

    def _state(self, maps: Maps) -> State:
        return standardised(flat(maps).astype(np.float64))


@dataclass(frozen=True)
class Cosine(Similarity):
    """The cosine of the angle between two maps as vectors: <a, b> / (|a| |b|).

    In [-1, 1] ([0, 1] for absolute maps), symmetric, unchanged by a·map with a > 0. Needs no scaling.
    """

    def _state(self, maps: Maps) -> State:
        return unit(flat(maps).astype(np.float64))


@dataclass(frozen=True)
class SignCorrelation(Similarity):
    """Pearson's correlation of ternary maps, which Heo et al. (2019) call rank correlation.

    A pixel is sign(h) where |h| lies more than one (unbiased) standard deviation of |h| above its mean, else 0. In
    [-1, 1], symmetric, unchanged by a·map with a > 0. Needs no scaling. A map in which no pixel stands out so far is 1
    to another such map and 0 to all others, where the published code would have 0 / 0.
    """

    def _state(self, maps: Maps) -> State:
        values = flat(maps).astype(np.float64)
        size = np.abs(values)
        mean = size.mean(1, keepdims=True)
        deviation = np.sqrt(np.square(size - mean).sum(1, keepdims=True) / max(1, size.shape[1] - 1))
        return standardised(np.sign(values) * (size - mean > deviation))


@dataclass(frozen=True)
class MSE(Similarity):
    """1 - mean squared difference of the maps, each scaled to [0, 1] by its own least and largest value.

    In [0, 1], symmetric, unchanged by a·map + b with a > 0. Does its own scaling.
    """

    def _state(self, maps: Maps) -> State:
        return flat(min_max(maps.astype(np.float64)))

    def _similarity(self, a: State, b: State) -> Scores:
        difference = a - b
        return 1 - np.einsum("ij,ij->i", difference, difference) / a.shape[1]
