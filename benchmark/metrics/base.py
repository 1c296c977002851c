"""What all our similarities share: one side prepared once, cache-sized chunks, and silent maps as NaN."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from unfooled.maps import says_nothing
from unfooled.types import Maps, Metric, Scores

State = np.ndarray
"""One side of a comparison, prepared: first axis one row a map, so that ``state[rows]`` are these maps' states."""

CHUNK_PIXELS = 1 << 15
"""Pixels worked on at once: 256 KiB of float64, which leaves room in a core's second-level cache for intermediates."""


@runtime_checkable
class Prepared(Protocol):
    """A similarity whose work on one side can be kept and used against many others."""

    def prepare(self, maps: Maps) -> State:
        """All that depends on these maps alone."""
        ...

    def compare(self, a: State, b: State) -> Scores:
        """``metric(maps_a, maps_b)``, from both sides' states."""
        ...

    def against(self, a: State, maps_b: Maps) -> Scores:
        """``compare(a, prepare(maps_b))``, for a side that is used once: its state never exists as a whole."""
        ...

    def __call__(self, maps_a: Maps, maps_b: Maps) -> Scores: ...


@dataclass(frozen=True)
class Unprepared:
    """A plain metric function as a ``Prepared`` one: the maps themselves are its state."""

    metric: Metric

    def prepare(self, maps: Maps) -> State:
        return maps

    def compare(self, a: State, b: State) -> Scores:
        """Raises ValueError where the function does not answer with one number a pair."""
        scores = np.asarray(self.metric(a, b), dtype=np.float64)
        if scores.shape != (len(a),):
            name = getattr(self.metric, "__name__", self.metric)
            raise ValueError(f"metric {name}: answered with shape {scores.shape}; one similarity a pair is ({len(a)},)")
        return scores

    against = __call__ = compare


def prepared(metric: Metric) -> Prepared:
    """The metric itself where it has ``prepare`` and ``compare``, else the plain function in an ``Unprepared``."""
    return metric if isinstance(metric, Prepared) else Unprepared(metric)


def chunks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of the first axis, of about ``CHUNK_PIXELS`` values and at least one row; one empty slice for no rows."""
    step = max(1, CHUNK_PIXELS // max(1, int(np.prod(shape[1:]))))
    return (slice(start, start + step) for start in range(0, max(1, shape[0]), step))


class Similarity(ABC):
    """The base of our metrics: ``metric(a, b) == metric.compare(metric.prepare(a), metric.prepare(b))``.

    Maps are (n, h, w) and worked on as float32; similarities are float64 (n,). A pair has NaN exactly where
    ``maps.says_nothing`` holds of either map; every other pair has a number, and two identical maps have 1.
    Each pair's number depends on that pair alone, to the bit. Raises ValueError for batches of other shapes, of two
    different shapes, or with fewer rows or columns than ``smallest``.
    """

    smallest = 1

    def prepare(self, maps: Maps) -> State:
        maps = self._checked(maps)
        return _gathered(maps.shape, lambda rows: self._prepare_chunk(maps[rows]))

    def compare(self, a: State, b: State) -> Scores:
        self._check_alike(a, b)
        return _gathered(a.shape, lambda rows: self._similarity(a[rows], b[rows]))

    def against(self, a: State, maps_b: Maps) -> Scores:
        maps_b = self._checked(maps_b)
        if len(a) != len(maps_b):
            raise ValueError(f"{self._name}: {len(a)} and {len(maps_b)} maps; both sides must have as many")
        return _gathered(maps_b.shape, lambda rows: self._similarity_to(a[rows], maps_b[rows]))

    def __call__(self, maps_a: Maps, maps_b: Maps) -> Scores:
        maps_a, maps_b = self._checked(maps_a), self._checked(maps_b)
        self._check_alike(maps_a, maps_b)
        return _gathered(maps_a.shape, lambda r: self._similarity_to(self._prepare_chunk(maps_a[r]), maps_b[r]))

    @abstractmethod
    def _state(self, maps: Maps) -> State:
        """The state of a chunk of maps; of a silent one, shown here as all zero, any numbers will do."""

    def _similarity(self, a: State, b: State) -> Scores:
        """Similarities of a chunk of states; unless overridden, the scalar product of unit vectors."""
        return np.clip(np.einsum("ij,ij->i", a, b), -1.0, 1.0)

    def _prepare_chunk(self, maps: Maps) -> State:
        silent = says_nothing(maps)
        if not silent.any():
            return self._state(maps)
        state = self._state(np.where(silent[:, None, None], np.float32(0), maps))
        state[silent] = np.nan
        return state

    def _similarity_to(self, a: State, maps_b: Maps) -> Scores:
        b = self._prepare_chunk(maps_b)
        self._check_alike(a, b)
        return self._similarity(a, b)

    def _check_alike(self, a: np.ndarray, b: np.ndarray) -> None:
        if a.shape != b.shape:
            raise ValueError(f"{self._name}: shapes {a.shape} and {b.shape}; both sides must have the same")

    def _checked(self, maps: Maps) -> Maps:
        maps = np.ascontiguousarray(maps, dtype=np.float32)
        if maps.ndim != 3:
            raise ValueError(f"{self._name}: maps of shape {maps.shape}; they must be (n, h, w)")
        if min(maps.shape[1:]) < self.smallest:
            size, least = "{} x {}".format(*maps.shape[1:]), f"{self.smallest} x {self.smallest}"
            raise ValueError(
                f"{self._name}: maps of {size} pixels; they must be at least {least}, so resize them first"
            )
        return maps

    @property
    def _name(self) -> str:
        return type(self).__name__


def _gathered(shape: tuple[int, ...], answer: Callable[[slice], np.ndarray]) -> np.ndarray:
    """The answers for all chunks, one below the other, written where they stay: large new arrays cost page faults."""
    first, *others = chunks(shape)
    part = answer(first)
    if not others:
        return part
    whole = np.empty((shape[0], *part.shape[1:]), part.dtype)
    whole[first] = part
    for rows in others:
        whole[rows] = answer(rows)
    return whole


def flat(maps: np.ndarray) -> np.ndarray:
    """(n, h, w) → (n, h·w), also for n = 0."""
    return maps.reshape(len(maps), maps.shape[1] * maps.shape[2])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, in place; rows of zeros stay so."""
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    vectors /= np.where(length > 0, length, 1)
    return vectors


def standardised(vectors: np.ndarray) -> np.ndarray:
    """Float64 rows centred and scaled to length 1, in place, so that scalar products are Pearson correlations.

    A row that varies by rounding at most becomes the constant vector of length 1. That one is orthogonal to all centred
    rows, so it correlates 0 with what varies and 1 with another such row, where the formula would be 0 / 0.
    """
    high, low = vectors.max(1), vectors.min(1)
    varies = high - low > 1e-9 * np.maximum(high, -low)
    vectors -= vectors.mean(1, keepdims=True)
    unit(vectors)
    vectors[~varies] = 1 / np.sqrt(vectors.shape[1])
    return vectors
