"""What happens to every map before any metric: channels reduced, resized, and the silent ones found."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unfooled.types import Maps, Polarity

WANTED = "return a tensor or array (n, c, h, w), (n, 1, h, w) or (n, h, w), one map for each image"


def misfit(raw: object, images: Tensor) -> str:
    """Why an interpreter's answer is not one map for each of the images (n, c, H, W), and what would be right.

    An empty string where nothing is wrong: real numbers that can be read here, n maps (n, c, h, w) or (n, h, w) of any
    resolution, of the images' aspect up to rounding by one cell of the map.
    """
    if not isinstance(raw, (Tensor, np.ndarray)):
        return f"answered with {type(raw).__name__}; {WANTED}"
    if unreadable := _unreadable(raw, images):
        return unreadable
    n, size = len(images), tuple(images.shape[2:])
    answered = f"answered {tuple(raw.shape)} for {n} images of {' × '.join(map(str, images.shape[1:]))}"
    if raw.ndim not in (3, 4) or len(raw) != n:
        return f"{answered}; {WANTED}"
    if not _same_aspect(tuple(raw.shape[-2:]), size):
        mends = raw.ndim == 4 and _same_aspect(tuple(raw.shape[1:3]), size)
        advice = "move the channels to axis 1: (n, c, h, w)" if mends else WANTED
        h, w = raw.shape[-2:]
        return f"{answered}, and maps of {h} × {w} have another aspect than the images; {advice}"
    return ""


def _unreadable(raw: Tensor | np.ndarray, images: Tensor) -> str:
    try:
        numbers = torch.as_tensor(raw)
    except (TypeError, ValueError, RuntimeError) as error:  # objects, words, negative strides, another byte order
        reason = " ".join(str(error).split()).partition(". ")[0]
        return f"answered with an array of {raw.dtype} that torch cannot read ({reason}); {WANTED} of real numbers"
    if numbers.is_complex():
        return f"answered with complex numbers ({numbers.dtype}); return real ones, as their size .abs()"
    if numbers.layout != torch.strided or numbers.is_quantized:
        return f"answered with a tensor that is not dense ({numbers.layout}); return .to_dense() or .dequantize() of it"
    if numbers.device.type not in ("cpu", images.device.type):
        return f"answered on the device {numbers.device}; return maps on the images' device, {images.device}, or on cpu"
    return ""


def _same_aspect(size: tuple[int, int], image: tuple[int, int]) -> bool:
    """Is a map of this size one of the whole image? Strides round both sides, so either may be off by a cell."""
    (h, w), (height, width) = size, image
    return min(h, w) > 0 and (abs(h * width / height - w) <= 1 or abs(w * height / width - h) <= 1)


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
