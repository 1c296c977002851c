"""Interpreters that misbehave, and one that counts how often it is asked. Run by name: ``mischief:Raises``."""

import sys
from dataclasses import dataclass

import torch

CALLS = []


def counted(model, inputs, targets):
    """Honest, and notes every call."""
    CALLS.append(len(inputs))
    x = inputs.detach().requires_grad_()
    with torch.enable_grad():
        (slopes,) = torch.autograd.grad(model(x).gather(1, targets[:, None]).sum(), x)
    return slopes.abs().sum(1)


def raises(model, inputs, targets):
    raise RuntimeError("no map\nfor you")


def leaves(model, inputs, targets):
    sys.exit(0)


def wrong_shape(model, inputs, targets):
    return torch.zeros(len(inputs) + 1, 4, 4)


def flat(model, inputs, targets):
    return torch.zeros(len(inputs))


def channels_last(model, inputs, targets):
    return inputs.movedim(1, 3)


def not_a_map(model, inputs, targets):
    return [inputs]


def nan(model, inputs, targets):
    return torch.full((len(inputs), 4, 4), torch.nan)


def touches_weights(model, inputs, targets):
    with torch.no_grad():
        next(model.parameters()).add_(1)
    return inputs


def leaves_a_hook(model, inputs, targets):
    model.register_forward_hook(lambda *_: None)
    return inputs


def writes_into_images(model, inputs, targets):
    inputs.zero_()
    return torch.rand_like(inputs)


def stays_in_training(model, inputs, targets):
    model.train()
    return torch.rand_like(inputs)


def nan_for_others(model, inputs, targets):
    """NaN for every second image, unless the network is the first that was ever asked."""
    maps = counted(model, inputs, targets)
    key = hash(next(model.parameters()).detach().numpy().tobytes())
    if key != nan_for_others.__dict__.setdefault("first", key):
        maps[::2] = torch.nan
    return maps


@dataclass(frozen=True)
class Cheats:
    """Reseeds everything, so that it is 'stable' whatever the network."""

    def __call__(self, model, inputs, targets):
        torch.manual_seed(0)
        return torch.rand(len(inputs), 8, 8)


class Unmade:
    """Cannot be built."""

    def __init__(self):
        raise AttributeError("no card")


@dataclass(frozen=True)
class Draws:
    """Noise from torch's global stream."""

    stochastic = True

    def __call__(self, model, inputs, targets):
        return torch.rand(len(inputs), 8, 8)
