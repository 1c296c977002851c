"""torchvision's networks taken apart for interpreters: one activation module a use, nothing in place, T one tensor.

Names of parameters never change, so weights fit before and after.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from importlib import import_module

import torch
from torch import Tensor, nn

from unfooled.vision import torchvision

Colour = Sequence[float]


class Normalise(nn.Module):
    """(x − mean) / std by channel. Not part of the weights: it belongs to how the network is built."""

    def __init__(self, mean: Colour, std: Colour):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Network(nn.Sequential):
    """A network that takes images in [0, 1], normalises them inside and names its T.

    ``target_layer`` is the dotted path of the module whose input is T.
    """

    def __init__(self, network: nn.Module, target_layer: str, mean: Colour, std: Colour):
        super().__init__(OrderedDict(normalise=Normalise(mean, std), network=network))
        self.target_layer = f"network.{target_layer}"


class Add(nn.Module):
    """The sum of a residual branch and its skip: a module, so that propagation rules can share relevance here."""

    def forward(self, branch: Tensor, skip: Tensor) -> Tensor:
        return branch + skip


class Residual(nn.Module):
    """A BasicBlock or Bottleneck of torchvision with a ReLU for each use, and its sum a module."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.conv1, self.bn1, self.relu1 = block.conv1, block.bn1, nn.ReLU()
        self.conv2, self.bn2 = block.conv2, block.bn2
        self.deep = hasattr(block, "conv3")
        if self.deep:
            self.relu2, self.conv3, self.bn3 = nn.ReLU(), block.conv3, block.bn3
        self.downsample = block.downsample
        self.add, self.relu = Add(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        if self.deep:
            out = self.bn3(self.conv3(self.relu2(out)))
        return self.relu(self.add(out, x if self.downsample is None else self.downsample(x)))


class DenseLayer(nn.Sequential):
    """A dense layer on one tensor of all features so far: (n, c, h, w) → (n, c + growth, h, w), the new ones last."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, super().forward(x)], 1)


class PadShortcut(nn.Module):
    """ResNet's option A (He et al. 2016, section 4.2): every second pixel, and zero channels on both sides."""

    def __init__(self, channels: int, wanted: int):
        super().__init__()
        self.pad = (wanted - channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))


def _dense_layer(layer: nn.Module) -> nn.Module:
    return DenseLayer(OrderedDict(layer.named_children()))


def _dense_block(block: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(block.named_children()))


def _densenet(net: nn.Module) -> nn.Module:
    head = OrderedDict(relu=nn.ReLU(), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), classifier=net.classifier)
    return nn.Sequential(OrderedDict(features=net.features, **head))


def _conv_and_relu(unit: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(conv=unit.conv, bn=unit.bn, relu=nn.ReLU()))


_REBUILDERS: dict[type, Callable[[nn.Module], nn.Module]] = {
    torchvision.models.resnet.BasicBlock: Residual,
    torchvision.models.resnet.Bottleneck: Residual,
    torchvision.models.densenet._DenseLayer: _dense_layer,
    torchvision.models.densenet._DenseBlock: _dense_block,
    torchvision.models.DenseNet: _densenet,
    # by import_module: in torchvision.models the name googlenet is the function, not its module
    import_module("torchvision.models.googlenet").BasicConv2d: _conv_and_relu,
    torchvision.models.inception.BasicConv2d: _conv_and_relu,
}


def taken_apart(module: nn.Module) -> nn.Module:
    """The module, rebuilt where torchvision shares an activation, hides one in ``forward`` or works in place.

    Keeps the parameters and their names. The module given is used up.
    """
    for name, child in module.named_children():
        setattr(module, name, taken_apart(child))
    if getattr(module, "inplace", False):
        module.inplace = False
    rebuild = _REBUILDERS.get(type(module))
    return rebuild(module) if rebuild else module


def last_block(net: nn.Module) -> str | None:
    """The dotted path of the last residual block or dense layer; None in a network without any."""
    paths = [path for path, module in net.named_modules() if isinstance(module, Residual | DenseLayer)]
    return paths[-1] if paths else None


def residual_stage(inputs: int, width: int, blocks: int, stride: int, shortcut: nn.Module | None) -> nn.Sequential:
    """Blocks of one width; the first one goes from ``inputs`` channels with the stride, past it goes the shortcut."""
    basic = torchvision.models.resnet.BasicBlock
    return nn.Sequential(basic(inputs, width, stride, shortcut), *(basic(width, width) for _ in range(blocks - 1)))


def projection(inputs: int, width: int, stride: int) -> nn.Sequential:
    """ResNet's option B: a 1 × 1 convolution past the block."""
    return nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))
