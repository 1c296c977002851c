"""The three small architectures with nothing left at its initial value, and what every interpreter is held to."""

import dataclasses

import pytest
import torch
from torch import nn

from unfooled import models, seeding, sentinel

ARCHITECTURES = ["vgg", "resnet", "densenet"]
CLASSES = 5


def network(architecture, bias=True):
    """A float64 network in eval mode with biases (or none) and BatchNorm statistics drawn; frozen, as twins are."""
    with seeding.forked("tests", "network", architecture):
        net = getattr(models, architecture)(CLASSES).eval().double()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.running_mean, std=0.3 * bias)
            if getattr(module, "bias", None) is not None:
                nn.init.normal_(module.bias, std=0.3 * bias)
    return net.requires_grad_(False)


def images(count=2, side=16):
    generator = torch.Generator().manual_seed(4)  # under some draws a random net has no positive relevance at T
    x = torch.rand(count, 3, side, side, generator=generator, dtype=torch.float64)
    return x, torch.randint(CLASSES, (count,), generator=generator)


def asked(interpreter, net, x, y):
    """The maps, under one fixed global seed; fails where anything of the model, the images or torch was changed."""
    with seeding.forked("tests", "asked"), sentinel.untouched(net, x, y):
        return interpreter(net, x, y)


def logits(net, x, y):
    return net(x).gather(1, y[:, None])[:, 0]


def same(ours, theirs, relative=1e-10):
    """float64 results of the same sum in another order: 1e-16 an operation, grown by the depth and by division."""
    assert ours.shape == theirs.shape
    scale = theirs.abs().max()
    assert scale > 0
    assert (ours - theirs).abs().max() <= relative * scale


def check_batches(interpreter, net):
    """One image alone, or the batch in another order, gets the map it gets in a batch of three."""
    x, y = images(3)
    together = asked(interpreter, net, x, y)
    same(torch.cat([asked(interpreter, net, x[i : i + 1], y[i : i + 1]) for i in range(3)]), together)
    same(asked(interpreter, net, x.flip(0), y.flip(0)).flip(0), together)


def check_declares(interpreter, net):
    """It answers in the shape and with the sign that it declares, by model, image and target."""
    x, y = images(2)
    maps = asked(interpreter, net, x, y)
    assert maps.shape[1:] in ([(3, 16, 16), (1, 4, 4)] if interpreter.at == "input" else [(1, 4, 4)])
    assert not maps.requires_grad
    assert interpreter.signed or (maps >= 0).all()
    assert not torch.equal(asked(interpreter, net, x, (y + 1) % CLASSES), maps)
    assert not torch.equal(asked(interpreter, net, x.flip(3), y), maps)


def check_attackable(interpreter, net):
    """With ``create_graph`` the same map, whose derivative by all weights is that of finite differences.

    One of three steps must agree: a large one may cross a kink of the network, a small one drowns in rounding
    (1e-16 / 1e-9 of sums of hundreds of values).
    """
    x, y = images(2)
    plain = asked(interpreter, net, x, y)
    stream = torch.Generator().manual_seed(1)
    weigh = torch.randn(plain.shape, generator=stream, dtype=torch.float64)
    net.requires_grad_(True)
    weights = list(net.parameters())
    maps = asked(dataclasses.replace(interpreter, create_graph=True), net, x, y)
    same(maps.detach(), plain)
    slopes = torch.autograd.grad((maps * weigh).sum(), weights, allow_unused=True)
    net.requires_grad_(False)
    direction = [torch.randn(w.shape, generator=stream, dtype=w.dtype) * w.abs().mean() for w in weights]
    ours = sum((s * d).sum() for s, d in zip(slopes, direction, strict=True) if s is not None).item()
    theirs = []
    for step in (1e-7, 1e-8, 1e-6):
        up, down = (_moved(interpreter, net, x, y, weigh, direction, by) for by in (step, -step))
        theirs.append((up - down) / (2 * step))
        if ours == pytest.approx(theirs[-1], rel=1e-4):
            return
    raise AssertionError(f"derivative {ours}, finite differences {theirs}")


def _moved(interpreter, net, x, y, weigh, direction, by):
    before = [w.clone() for w in net.parameters()]
    for weight, way in zip(net.parameters(), direction, strict=True):
        weight += by * way
    value = (asked(interpreter, net, x, y) * weigh).sum().item()
    for weight, old in zip(net.parameters(), before, strict=True):
        weight.copy_(old)
    return value


def check_cleans_up(interpreter, net):
    """A model that fails half-way is left as it was."""
    broken = nn.Sequential(net[0], net[1], _Broken())
    broken.target_layer = net.target_layer.replace("network", "1")
    x, y = images(1)
    with sentinel.untouched(broken, x, y), pytest.raises(RuntimeError, match="broken"):
        interpreter(broken, x, y)


class _Broken(nn.Module):
    def forward(self, x):
        raise RuntimeError("broken")
