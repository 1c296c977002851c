"""Splits of a few coloured squares that a network separates at once, for tests that fine-tune for a few steps."""

import torch

from unfooled import models, seeding, training
from unfooled.types import Batch, Pairs, Splits

CLASSES = 4


def batch(count, word, side=16):
    """A bright square in the quarter of the image that the class names, on noise; the square is the mask."""
    stream = seeding.generator("tests", "small data", word)
    labels = torch.arange(count) % CLASSES
    images = 0.3 * torch.rand(count, 3, side, side, generator=stream)
    masks = torch.zeros(count, side, side, dtype=torch.bool)
    half, third = side // 2, side // 3
    for i, label in enumerate(labels.tolist()):
        row, column = half * (label // 2) + 1, half * (label % 2) + 1
        masks[i, row : row + third, column : column + third] = True
    return Batch(images + 0.6 * masks[:, None], labels, masks)


def pairs(first, second, split, count):
    one, other = batch(4 * count, f"{split} one"), batch(4 * count, f"{split} other")
    a, b = one[(one.labels == first).nonzero()[:count, 0]], other[(other.labels == second).nonzero()[:count, 0]]
    return Pairs(torch.maximum(a.images, b.images), torch.stack([a.labels, b.labels], 1))


def splits(train=64):
    return Splits(tuple("abcd"), batch(train, "train"), batch(32, "tune"), batch(32, "test"), pairs)


def fitted(data, architecture="vgg", steps=30):
    """A network that tells the four apart."""
    with seeding.forked("tests", "small net", architecture):
        model = getattr(models, architecture)(CLASSES)
    return training.fit(model, data.train, training.Fit(steps=steps, batch=16, rate=5e-3), "tests")


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
