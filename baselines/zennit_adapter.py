"""zennit's composites as interpreters: ``zennit:EpsilonPlusFlat``, with the library's own arguments.

As in ``adapters``: a copy of the model, arguments checked when the adapter is made, optional, lazy, not attackable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unfooled.baselines import foreign
from unfooled.types import Family


def zennit(name: str, **arguments: object) -> Zennit:
    """A zennit composite under its class name, e.g. ``zennit("EpsilonPlusFlat", epsilon=1e-6)``.

    Arguments go to the composite. Batch norms are merged into the convolution that feeds them, found by watching one
    forward pass; sums of residual branches become zennit's ``Sum``; the normalisation of the input passes relevance on.
    Relevance starts as 1 at the target. Raises UnknownPart for a missing library, composite or argument.
    """
    made = Zennit(name, arguments)
    foreign.check_arguments(made.where, arguments, made._class)
    return made


@dataclass(frozen=True)
class Zennit:
    """zennit's gradient attributor with one of its composites. Signed maps (n, c, h, w). Make it with ``zennit``."""

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)

    family: ClassVar[Family] = "propagation"
    signed: ClassVar[bool] = True

    @property
    def where(self) -> str:
        return f"zennit:{self.name}"

    @property
    def _class(self) -> type:
        composites = foreign.library(self.where, "zennit.composites", "zennit")
        ready = composites.COMPOSITES  # by zennit's own short names; the other classes want a map of rules
        return foreign.member("zennit", {c.__name__: c for c in ready.values()} | ready, self.name)

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        attribution = foreign.library(self.where, "zennit.attribution", "zennit")
        own, images = foreign.own_copy(model), inputs.detach().clone()
        with foreign.quietly():
            _name_sums(own)
            canonizers = _canonizers(own, images[:1])
            composite = self._class(canonizers=canonizers, **self._layer_map(), **self.arguments)
            with attribution.Gradient(own, composite) as attributor:
                _, relevance = attributor(images, lambda out: F.one_hot(targets, out.shape[1]).to(out))
        return relevance.detach()

    def _layer_map(self) -> dict[str, object]:
        """Rules propagate relevance, which normalisation passes on; gradients it scales as any layer does."""
        if self._class.__name__ in ("GuidedBackprop", "DeconvNet", "BetaSmooth"):
            return {}
        from zennit.rules import Pass

        from unfooled.blocks import Normalise

        return {"layer_map": [((Normalise,), Pass())]}


class _NamedSum(nn.Module):
    """The sum of two branches through zennit's ``Sum``, which shares relevance out by what each branch brought."""

    def __init__(self) -> None:
        super().__init__()
        from zennit.layer import Sum

        self.total = Sum()

    def forward(self, branch: Tensor, skip: Tensor) -> Tensor:
        return self.total(torch.stack([branch, skip], -1))


def _name_sums(model: nn.Module) -> None:
    from unfooled.blocks import Add

    for path, module in list(model.named_modules()):
        if isinstance(module, Add):
            foreign.replace_module(model, path, _NamedSum())


def _canonizers(model: nn.Module, image: Tensor) -> list:
    """Each batch norm merged into the layer whose very output it is given, and torchvision's residual blocks."""
    from zennit.canonizers import NamedMergeBatchNorm
    from zennit.torchvision import ResNetBasicBlockCanonizer, ResNetBottleneckCanonizer

    pairs = [((linear,), norm) for linear, norm in _fed_by(foreign.own_copy(model), image)]
    return [NamedMergeBatchNorm(pairs), ResNetBottleneckCanonizer(), ResNetBasicBlockCanonizer()]


def _fed_by(model: nn.Module, image: Tensor) -> list[tuple[str, str]]:
    """(linear layer, batch norm) wherever the one's output is the other's input, by watching a forward pass."""
    made_by, found = {}, []

    def made(path: str, out: Tensor) -> None:
        made_by[id(out)] = path, out  # held, so that no later tensor gets the same id

    def used(path: str, given: Tensor) -> None:
        if id(given) in made_by:
            found.append((made_by[id(given)][0], path))

    for path, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            module.register_forward_hook(lambda m, given, out, path=path: made(path, out))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.register_forward_pre_hook(lambda m, given, path=path: used(path, given[0]))
    with torch.no_grad():
        model(image)
    return found
