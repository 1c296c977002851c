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
    ordered = np.sort(_packed(flat(maps)), axis=1)
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
    """What each place of the sorted rows is worth: its centred rank over the row's length, equal values sharing one."""
    pixels = ordered.shape[1]
    starts = np.ones(ordered.shape, dtype=bool)
    np.greater((ordered[:, 1:] ^ ordered[:, :-1]), _LOW, out=starts[:, 1:])
    if starts.all():
        centred = np.arange(pixels) - (pixels - 1) / 2
        return centred / max(1.0, np.sqrt(centred @ centred))
    return _shared_values(np.flatnonzero(starts), ordered.shape)


def _shared_values(starts: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The same with ties: runs of equal values begin at ``starts`` of the flattened rows."""
    rows, pixels = shape
    lengths = np.diff(starts, append=rows * pixels)
    centred = starts % pixels + (lengths - pixels) / 2
    squares = np.bincount(starts // pixels, weights=lengths * centred**2, minlength=rows)
    scale = 1 / np.sqrt(np.where(squares > 0, squares, 1))
    return np.repeat(centred * scale[starts // pixels], lengths).reshape(shape)
