"""Average ranks of many maps by one sort of integers that carry value and position together."""

from __future__ import annotations

import numpy as np

from unfooled.metrics.base import flat
from unfooled.types import Maps

_SIGN = np.uint32(0x80000000)
_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)


def standardised_ranks(maps: Maps) -> np.ndarray:
    """Average ranks of each map's pixels, centred and scaled to length 1: (n, h·w) float64.

    The scalar product of two rows is Spearman's correlation of these maps. A constant map has a row of zeros.
    ``maps`` is contiguous float32 with fewer than 2**32 pixels in all.
    """
    ordered = _packed(flat(maps))
    ordered.sort(axis=1)
    values = _values_in_order(ordered)
    ordered &= _LOW
    ranks = np.empty(ordered.shape)
    ranks.reshape(-1)[ordered.view(np.int64)] = values
    return ranks


def _packed(values: np.ndarray) -> np.ndarray:
    """uint64: the float's order in the high word, the position in the whole array in the low one.

    Read as integers, non-negative floats already stand in order; negative ones stand in reverse below them once all
    their bits are flipped. Adding 0 makes -0 and 0 one value.
    """
    bits = (values + np.float32(0)).view(np.uint32)
    bits ^= (bits.view(np.int32) >> 31).view(np.uint32) | _SIGN
    packed = bits.astype(np.uint64)
    packed <<= _WORD
    packed |= np.arange(packed.size, dtype=np.uint64).reshape(packed.shape)
    return packed


def _values_in_order(ordered: np.ndarray) -> np.ndarray:
    """What each place of the sorted rows is worth: its centred rank, equal values sharing one, the row of length 1."""
    rows, pixels = ordered.shape
    values = np.tile(np.arange(pixels) - (pixels - 1) / 2, (rows, 1))
    squares = np.full(rows, (float(pixels) ** 3 - pixels) / 12)
    repeats = np.zeros((rows, pixels + 1), dtype=bool)  # is this place's value the one before? The end repeats nothing.
    np.less_equal(ordered[:, 1:] ^ ordered[:, :-1], _LOW, out=repeats[:, 1:-1])
    if repeats.any():
        _share(values, squares, repeats)
    values *= 1 / np.sqrt(np.where(squares > 0, squares, 1))[:, None]
    return values


def _share(values: np.ndarray, squares: np.ndarray, repeats: np.ndarray) -> None:
    """Give every run of equal values its mean place, in place. A run of t places loses (t³ - t) / 12 of its squares."""
    rows, pixels = values.shape
    first = np.flatnonzero(repeats[:, 1:] & ~repeats[:, :-1])
    last = np.flatnonzero(repeats[:, :-1] & ~repeats[:, 1:])
    lengths = last - first + 1
    shared = (repeats[:, 1:] | repeats[:, :-1]).reshape(-1)
    places = values.reshape(-1)
    places[shared] = np.repeat((places[first] + places[last]) / 2, lengths)
    squares -= np.bincount(first // pixels, (lengths.astype(np.float64) ** 3 - lengths) / 12, rows)
