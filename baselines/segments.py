"""Images cut into pieces that are hidden and shown as wholes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unfooled.baselines import settings
from unfooled.types import DataError

Segmentation = Literal["grid", "slic", "quickshift"]


def segment(images: Tensor, how: Segmentation, side: int) -> Tensor:
    """Piece numbers of every pixel, int64 (n, h, w), counted from 0 without gaps; each image is cut by itself.

    ``grid``: side × side rectangles. ``slic`` (Achanta et al. 2012, compactness 10 on Lab colours): about side² pieces
    of even colour. ``quickshift`` (Vedaldi & Soatto 2008): as many as it finds, with the ratio 0.2, maximal distance
    200 and, at 224 pixels, kernel 4 of LIME; the kernel shrinks with the image, down to 1. The last two come from
    scikit-image and want one or three channels.
    """
    if how == "grid":
        return _grid(images, side)
    cut = [_superpixels(image, how, side) for image in images.detach().cpu().double().numpy()]
    return torch.from_numpy(np.stack(cut)).to(images.device)


def check(part: object) -> None:
    """Raise ValueError where a part's ``segments`` and ``side`` are no way to cut."""
    settings.one_of(part, "segments", Segmentation)
    settings.whole(part, "side")


def _grid(images: Tensor, side: int) -> Tensor:
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device) * side // height
    columns = torch.arange(width, device=images.device) * side // width
    numbers = rows.unique(return_inverse=True)[1][:, None] * columns.unique().numel()
    return (numbers + columns.unique(return_inverse=True)[1]).expand(len(images), -1, -1)


def _superpixels(image: np.ndarray, how: Segmentation, side: int) -> np.ndarray:
    from skimage.segmentation import quickshift, slic  # half a second that other interpreters need not pay

    if len(image) not in (1, 3):
        raise DataError(f"segments: {how} cuts images of 1 or 3 channels, and these have {len(image)}; use grid")
    colour = np.moveaxis(np.broadcast_to(image, (3, *image.shape[1:])), 0, -1)
    if how == "slic":
        pieces = slic(colour, n_segments=side**2, start_label=0)
    else:
        pieces = quickshift(colour, kernel_size=max(1, 4 * len(colour) / 224), max_dist=200, ratio=0.2)
    return np.unique(pieces, return_inverse=True)[1].reshape(pieces.shape).astype(np.int64)


def means(images: Tensor, pieces: Tensor) -> Tensor:
    """Every pixel replaced by the mean colour of its piece: (n, c, h, w)."""
    count = int(pieces.max()) + 1
    index = pieces.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    sums = images.new_zeros(*images.shape[:2], count).scatter_add(2, index, images.flatten(2))
    sizes = images.new_zeros(*images.shape[:2], count).scatter_add(2, index, torch.ones_like(images).flatten(2))
    return (sums / sizes.clamp(min=1)).gather(2, index).view_as(images)
