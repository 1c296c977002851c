"""Networks that fit in seconds, any of torchvision's by name, and weights as safetensors files.

Every network takes images in [0, 1], normalises inside, and names its T in ``target_layer``: the dotted path of the module whose
*input* is T, the last convolutional block (Heo, Joo and Moon 2019, section 4). Importing this module does not import
torchvision (1.6 s): making a network does.
"""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unfooled.types import DataError, UnfooledError, UnknownPart

GREY = (0.5, 0.5, 0.5)
QUARTER = (0.25, 0.25, 0.25)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _initialise(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def _small(net: nn.Module, target_layer: str) -> nn.Module:
    from unfooled.blocks import Network, taken_apart

    network = Network(taken_apart(_initialise(net)), target_layer, GREY, QUARTER)
    return network.to(memory_format=torch.channels_last)


def vgg(num_classes: int = 10) -> nn.Module:
    from unfooled.vision import torchvision

    with torch.device("meta"):
        net = torchvision.models.VGG(nn.Sequential(), num_classes)
    net.features = torchvision.models.vgg.make_layers([16, "M", 32, 32, "M", 64, 64, 64], batch_norm=True)
    net.avgpool, net.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(64, num_classes)
    return _small(net, _last_conv(net))


def resnet(num_classes: int = 10) -> nn.Module:
    from unfooled.blocks import projection, residual_stage
    from unfooled.vision import torchvision

    with torch.device("meta"):
        net = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes)
    net.conv1, net.bn1, net.maxpool = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.MaxPool2d(2)
    net.layer1 = residual_stage(16, 16, 1, 1, None)
    net.layer2 = residual_stage(16, 32, 1, 1, projection(16, 32, 1))
    net.layer3 = residual_stage(32, 48, 1, 2, projection(32, 48, 2))
    net.layer4 = residual_stage(48, 64, 1, 1, projection(48, 64, 1))
    net.fc = nn.Linear(64, num_classes)
    return _small(net, "layer4.0")


def densenet(num_classes: int = 10) -> nn.Module:
    from unfooled.vision import torchvision

    net = torchvision.models.DenseNet(16, (3, 6), 24, 4, num_classes=num_classes)
    net.features.conv0 = nn.Conv2d(3, 24, 3, stride=2, padding=1, bias=False)
    del net.features.pool0
    return _small(net, "features.denseblock2.denselayer6")


def _last_conv(model: nn.Module) -> str | None:
    paths = [path for path, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    return paths[-1] if paths else None
