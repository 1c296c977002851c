"""Asking a model about partly hidden images: many masks, several images, one bounded batch at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

MaskOf = Callable[[Tensor, Tensor], Tensor]
"""(image indices (b,), mask indices (b,)) → masks (b, 1, h, w) in [0, 1]: 1 shows the image, 0 hides it"""


def scores_under_masks(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    hidden: Tensor,
    mask_of: MaskOf,
    masks: int,
    chunk: int = 64,
    create_graph: bool = False,
) -> Tensor:
    """Target logits of every image under every mask: (n, masks).

    Image i under mask j is ``mask · inputs[i] + (1 - mask) · hidden[i]``, with inputs and hidden (n, c, h, w). At most
    ``chunk`` images are in flight. With ``create_graph`` the scores carry a graph to the weights, and to inputs that
    require grad; its activations are computed a second time in the backward pass, so that memory stays bounded by one
    chunk there too.
    """
    one_chunk = partial(_scores, model, inputs, targets, hidden, mask_of, masks)
    if create_graph:
        one_chunk = partial(checkpoint, one_chunk, use_reentrant=False, preserve_rng_state=False)
    pairs = torch.arange(len(inputs) * masks, device=inputs.device).split(chunk)
    with torch.set_grad_enabled(create_graph):
        return torch.cat([one_chunk(some) for some in pairs]).view(len(inputs), masks)


def _scores(
    model: nn.Module, inputs: Tensor, targets: Tensor, hidden: Tensor, mask_of: MaskOf, masks: int, pairs: Tensor
) -> Tensor:
    image, mask = pairs // masks, pairs % masks
    shown = torch.lerp(hidden[image], inputs[image], mask_of(image, mask))
    return model(shown).gather(1, targets[image, None])[:, 0]


def shared(masks: Tensor) -> MaskOf:
    """The same masks (m, h, w) for every image."""
    return lambda image, mask: masks[mask, None]


def filled(inputs: Tensor, value: float) -> Tensor:
    """One grey value in the place of every hidden pixel; shaped like the inputs, but held once."""
    return inputs.new_tensor(value).expand_as(inputs)


def blur(images: Tensor, deviation: float) -> Tensor:
    """Gaussian blur of (n, c, h, w), cut at four standard deviations; the border pixels continue."""
    if deviation == 0:
        return images
    radius = int(4 * deviation + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / deviation) ** 2)
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images, (radius,) * 4, mode="replicate")
    across = F.conv2d(padded, kernel, groups=images.shape[1])
    return F.conv2d(across, kernel.transpose(2, 3), groups=images.shape[1])
