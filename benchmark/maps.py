"""What happens to every map before any metric: channels reduced, resized, and the silent ones found."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unfooled.types import Maps, Polarity


def reduce_channels(raw: Tensor, polarity: Polarity) -> Tensor:
    """(n, c, h, w) or (n, h, w) → (n, h, w): Σ_c |a| ("absolute") or Σ_c a ("signed")."""
    if raw.dim() == 3:
        raw = raw[:, None]
    return raw.abs().sum(1) if polarity == "absolute" else raw.sum(1)


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, h, w) → (n, *size): bilinear where it grows, area where it shrinks, untouched where it fits."""
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    if maps.shape[1] >= size[0] and maps.shape[2] >= size[1]:
        return F.interpolate(maps[:, None], size=size, mode="area")[:, 0]
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def finish(raw: Tensor, polarity: Polarity, size: tuple[int, int]) -> Maps:
    """An interpreter's raw maps as what metrics take: reduced, resized, float32 (n, h, w) on the CPU."""
    with torch.no_grad():
        return resize(reduce_channels(raw.detach().float(), polarity), size).cpu().contiguous().numpy()


def says_nothing(maps: Maps) -> np.ndarray:
    """bool (n,): True for a silent map, one that is constant, zero or not finite anywhere.

    Constant means that its range is at most 1e-6 of its largest magnitude (float32 rounding), or that it is below
    1e-30 everywhere. Decided here once, before any metric, so that no metric ever meets an undefined map.
    """
    with np.errstate(invalid="ignore"):  # least and largest are NaN or infinite where any pixel is
        low, high = maps.min((1, 2)).astype(np.float64), maps.max((1, 2)).astype(np.float64)
        largest = np.maximum(np.abs(low), np.abs(high))
        varies = (high - low > 1e-6 * largest) & (largest >= 1e-30)
    return ~(varies & np.isfinite(low) & np.isfinite(high))


def min_max(maps: Maps) -> Maps:
    """Each map scaled to [0, 1] by its own least and largest value; a constant map becomes 0."""
    low = maps.min((1, 2), keepdims=True)
    span = maps.max((1, 2), keepdims=True) - low
    return (maps - low) / np.where(span > 0, span, 1)
