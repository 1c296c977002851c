"""Many passes over the same images: chunks of bounded size, and random streams that belong to the image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from unfooled import seeding


def accumulate(passes: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, count: int, chunk: int) -> Tensor:
    """Σ over ``count`` passes of each image, ``chunk`` images at a time.

    ``passes(image, which)`` maps index vectors (which image, which of its passes; images in order, each with its passes
    in order) to (len(image), …); the sum is (n, …). Terms are added in the same order whatever the chunk.
    """
    total = None
    for part in torch.arange(len(inputs) * count, device=inputs.device).split(chunk):
        image = part // count
        terms = passes(image, part % count)
        if total is None:
            total = terms.new_zeros(len(inputs), *terms.shape[1:])
        total.index_add_(0, image, terms)
    return total


def image_streams(inputs: Tensor) -> list[torch.Generator]:
    """A random stream for each image, on the CPU: a function of torch's global seed and of the image's content.

    One number is taken from the global stream, however many images there are; with it the hash of each image's pixels
    seeds its stream. So under one global seed an image gets the same noise in whatever batch, order, chunk or
    device it comes, twins that are shown the same images get the same noise, and no image shares another's.
    """
    seed = int(torch.randint(2**62, ()))
    pixels = inputs.detach().float().cpu().contiguous().numpy()
    return [seeding.generator("image", seed, hashlib.sha256(image.tobytes()).hexdigest()) for image in pixels]
