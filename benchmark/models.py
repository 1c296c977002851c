"""Networks that fit in seconds, any of torchvision's by name, and weights as safetensors files.

Every network takes images in [0, 1], normalises inside, and names its T in ``target_layer``: the dotted path of the
module whose *input* is T, the last convolutional block (Heo, Joo and Moon 2019, section 4). Importing this module does
not import torchvision (1.6 s); making a network does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unfooled.plugins import near_miss
from unfooled.types import DataError, UnfooledError, UnknownPart

GREY = (0.5, 0.5, 0.5)
QUARTER = (0.25, 0.25, 0.25)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# The auxiliary heads of these two serve training alone, and the last convolution would be in one of them.
_OPTIONS = {name: {"aux_logits": False, "init_weights": False} for name in ("googlenet", "inception_v3")}


def vgg(num_classes: int = 10) -> nn.Module:
    """torchvision's VGG with BatchNorm for 32 × 32 images: 145 thousand parameters, T (n, 64, 8, 8)."""
    from unfooled.vision import torchvision

    with _outline():  # the head of the parent is 120 million parameters wide: replaced before it is ever made
        net = torchvision.models.VGG(nn.Sequential(), num_classes)
    widths = [16, "M", 32, 32, "M", 64, 64, 64, 64]
    net.features = torchvision.models.vgg.make_layers(widths, batch_norm=True)
    net.avgpool, net.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(64, num_classes)
    return _small(net)


def resnet(num_classes: int = 10) -> nn.Module:
    """torchvision's ResNet with narrow stages for 32 × 32 images: 152 thousand parameters, T (n, 64, 8, 8)."""
    from unfooled.blocks import projection, residual_stage
    from unfooled.vision import torchvision

    with _outline():  # the stages' widths are fixed in the parent: replaced before they are ever made
        net = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes)
    net.conv1, net.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
    net.maxpool = nn.MaxPool2d(2)
    net.layer1 = residual_stage(16, 16, 1, 1, None)
    net.layer2 = residual_stage(16, 32, 1, 1, projection(16, 32, 1))
    net.layer3 = residual_stage(32, 64, 1, 2, projection(32, 64, 2))
    net.layer4 = residual_stage(64, 64, 1, 1, None)
    net.fc = nn.Linear(64, num_classes)
    return _small(net)


def densenet(num_classes: int = 10) -> nn.Module:
    """torchvision's DenseNet with a stem of stride 2 for 32 × 32 images: 127 thousand parameters, T (n, 116, 8, 8)."""
    from unfooled.vision import torchvision

    net = torchvision.models.DenseNet(16, (3, 6), num_init_features=24, bn_size=4, num_classes=num_classes)
    net.features.conv0 = nn.Conv2d(3, 24, 3, stride=2, padding=1, bias=False)
    del net.features.pool0
    return _small(net)


def resnet20(num_classes: int = 10, weights: str | None = None) -> nn.Module:
    """The ResNet-20 for CIFAR-10 of He et al. 2016, section 4.2 (option A). T is its last block's input, (n, 64, 8, 8).

    Its parameters are named as in akamaster/pytorch_resnet_cifar10, whose weights ``weights`` may name, as safetensors.
    """
    from unfooled.blocks import PadShortcut, residual_stage

    layers = OrderedDict(conv1=nn.Conv2d(3, 16, 3, padding=1, bias=False), bn1=nn.BatchNorm2d(16), relu=nn.ReLU())
    layers["layer1"] = residual_stage(16, 16, 3, 1, None)
    layers["layer2"] = residual_stage(16, 32, 3, 2, PadShortcut(16, 32))
    layers["layer3"] = residual_stage(32, 64, 3, 2, PadShortcut(32, 64))
    layers |= OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(64, num_classes))
    return _with_weights(_network(_initialise(nn.Sequential(layers)), None, IMAGENET_MEAN, IMAGENET_STD), weights)


def torchvision(
    name: str,
    num_classes: int = 1000,
    weights: str | None = None,
    target_layer: str | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> nn.Module:
    """Any classifier of torchvision by name, for images in [0, 1]; nothing is downloaded.

    ``weights``: a safetensors file with torchvision's own names, as ``save_file(torchvision.models.vgg19(weights=
    "DEFAULT").state_dict(), path)`` writes it. ``target_layer``: the module whose input is T, as torchvision names it;
    by default the last residual block or dense layer, else the last convolution, which for vgg19, resnet50 and
    densenet121 is the paper's T. (A transformer's one convolution embeds patches: there T is the image, unless named.)
    Raises UnknownPart for a name or layer that is not there, DataError for weights that do not fit.
    """
    from unfooled.vision import torchvision as library

    known = library.models.list_models(module=library.models)
    if name not in known:
        hint = (
            near_miss(name, known) or "; it would be one of torchvision.models.list_models(module=torchvision.models)"
        )
        raise UnknownPart(f"models: torchvision has no classifier {name!r}{hint}")
    net = library.models.get_model(name, weights=None, num_classes=num_classes, **_OPTIONS.get(name, {}))
    return _with_weights(_network(net, target_layer, mean, std), weights)


@contextmanager
def _outline() -> Iterator[None]:
    """Layers made in the block have shapes and no values. Nor are any drawn: for that torch imports its compiler."""
    with torch.device("meta"), _Uninitialised():
        yield


class _Uninitialised(TorchFunctionMode):
    """``normal_`` returns its tensor as it is."""

    def __torch_function__(
        self, function: Callable, types: object, arguments: tuple = (), keywords: Mapping[str, object] | None = None
    ) -> object:
        if getattr(function, "__name__", None) == "normal_":
            return (*arguments, *(keywords or {}).values())[0]
        return function(*arguments, **(keywords or {}))


def _small(net: nn.Module) -> nn.Module:
    return _network(_initialise(net), None, GREY, QUARTER)


def _initialise(net: nn.Module) -> nn.Module:
    """Convolutions by He et al. 2015, as torchvision's own networks have it."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def _network(net: nn.Module, target_layer: str | None, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    from unfooled.blocks import Network, last_block, taken_apart

    net = taken_apart(net)
    path = target_layer or last_block(net) or last_conv(net)
    _submodule(net, path)
    return Network(net, path, mean, std).to(memory_format=torch.channels_last)  # a third faster on a CPU


def last_conv(model: nn.Module) -> str:
    """The dotted path of the convolution registered last: T's rule for a model that names none.

    Raises UnfooledError where there is no convolution.
    """
    paths = [path for path, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    if not paths:
        raise UnfooledError(
            f"model {type(model).__name__}: names no T and has no Conv2d; set its attribute target_layer to the dotted "
            "path of the module whose input is T"
        )
    return paths[-1]


def target_layer(model: nn.Module) -> str:
    """The dotted path of the module whose input is T: what the model names, else its last convolution."""
    return getattr(model, "target_layer", None) or last_conv(model)


def target_module(model: nn.Module) -> nn.Module:
    """The module whose input is T. Raises UnfooledError where the model names one that it does not have."""
    return _submodule(model, target_layer(model))


def _submodule(model: nn.Module, path: str) -> nn.Module:
    modules = dict(model.named_modules())
    if path not in modules:
        hint = near_miss(path, modules) or f"; it has {', '.join(name for name, _ in model.named_children())}, …"
        raise UnknownPart(f"model {type(model).__name__}: has no layer {path!r} for T{hint}")
    return modules[path]


def save_weights(model: nn.Module, path: Path | str, half: bool = False) -> None:
    """Write parameters and buffers as safetensors, under the names the network has without its normalisation.

    ``half`` writes float16, but running statistics stay float32: a variance may exceed what half precision holds.
    """
    state = _bare(model).state_dict()
    if half:
        state = {
            key: value if "running_" in key or not value.is_floating_point() else value.half()
            for key, value in state.items()
        }
    save_file({key: value.detach().cpu().contiguous() for key, value in state.items()}, str(path))


def load_weights(model: nn.Module, path: Path | str) -> nn.Module:
    """Fill the model in place from a safetensors file, every parameter and buffer; returned for convenience.

    Half precision becomes the model's own. Names may all carry the prefix ``network.`` or ``module.``. Raises DataError
    for a missing file, one that is not safetensors (pickles are never read), or the first name or shape that misfits.
    """
    where = f"weights {path}"
    try:
        state = load_file(weights_file(path))
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{where}: cannot be read as safetensors ({error}); write it with safetensors.torch.save_file"
        ) from error
    net = _bare(model)
    state = _without_prefix(state)
    if misfit := _misfit(net.state_dict(), state):
        raise DataError(f"{where}: {misfit}")
    net.load_state_dict(state, strict=False)  # strict but for batch counters, which older files lack and nothing reads
    return model


def weights_file(path: Path | str) -> Path:
    """The path, if there is a file. Raises DataError."""
    if not Path(path).is_file():
        raise DataError(f"weights {path}: no such file; name a safetensors file, under --data where that is given")
    return Path(path)


def _with_weights(model: nn.Module, weights: str | None) -> nn.Module:
    return load_weights(model, weights) if weights else model


def _bare(model: nn.Module) -> nn.Module:
    """The network without its normalisation; a model of the user's is left as it is."""
    children = [name for name, _ in model.named_children()]
    return model.network if children == ["normalise", "network"] else model


def _without_prefix(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    for prefix in ("module.", "network."):
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _misfit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str | None:
    """The first thing about the file that does not fit the model, and what would; None where all fits."""
    for key, value in wanted.items():
        if key not in given:
            if not key.endswith("num_batches_tracked"):
                return (
                    f"{key!r} is missing, which this model needs in shape {tuple(value.shape)}{_spare(given, wanted)}"
                )
        elif given[key].shape != value.shape:
            return f"{key!r} has shape {tuple(given[key].shape)}; this model needs {tuple(value.shape)}"
        elif given[key].is_floating_point() != value.is_floating_point():
            return f"{key!r} is {given[key].dtype}; this model needs {value.dtype}"
    extra = [key for key in given if key not in wanted]
    return f"{extra[0]!r} is not in this model{near_miss(extra[0], wanted) or _spare(wanted, given)}" if extra else None


def _spare(some: Iterable[str], others: Iterable[str]) -> str:
    spare = sorted(set(some) - set(others))
    return (
        f"; the file should be of the same network, and has {spare[0]!r} instead"
        if spare
        else "; it should be of the same network"
    )
