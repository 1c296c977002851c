"""Quantus-style functions, shap and lime as interpreters: libraries that take and give arrays, or one image at a time.

As in ``adapters``: a copy of the model, arguments checked when the adapter is made, optional, lazy, not attackable.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from unfooled import plugins, seeding
from unfooled.baselines import foreign
from unfooled.baselines import segments as cutting
from unfooled.baselines.segments import Segmentation
from unfooled.types import Family


def quantus(name: str, **arguments: object) -> Quantus:
    """A function ``(model, inputs, targets, **kwargs) → array`` on arrays, as Quantus takes it.

    ``package.module.function`` (or ``package.module:function``) names anyone's function; a bare word is a method of
    ``quantus.explain``, e.g. ``quantus("IntegratedGradients")``. Raises UnknownPart where it cannot be found.
    """
    made = Quantus(name, arguments)
    made.function()
    return made


@dataclass(frozen=True)
class Quantus:
    """A function on arrays: called by keyword with inputs (n, c, h, w) and targets (n,). Make it with ``quantus``."""

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)

    family: ClassVar[Family] = "other"

    def function(self) -> Callable:
        """What is called. Raises UnknownPart."""
        if not (self.name.count(".") or ":" in self.name):
            foreign.library(f"quantus:{self.name}", "quantus", "quantus")
            return plugins.find("interpreters", "quantus.functions.explanation_func:explain")
        module, _, function = self.name.replace(":", ".").rpartition(".")
        return plugins.find("interpreters", f"{module}:{function}")

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> np.ndarray:
        function, given = self.function(), dict(self.arguments)
        if "." not in self.name and ":" not in self.name:
            given["method"] = self.name
        parameters = inspect.signature(function).parameters
        if "device" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            given.setdefault("device", str(inputs.device))
        arrays = {"inputs": inputs.detach().cpu().numpy().copy(), "targets": targets.cpu().numpy().copy()}
        with foreign.quietly():
            return function(model=foreign.own_copy(model), **arrays, **given)


def shap(name: str, *, background: float | list[float] = 0.5, **arguments: object) -> Shap:
    """shap's ``GradientExplainer`` or ``DeepExplainer``, e.g. ``shap("GradientExplainer", nsamples=64)``.

    ``background``: the grey value, or values, of the images that stand for "nothing here". Only the target's logit is
    explained. DeepExplainer's ``check_additivity`` is off unless given: it ends a whole batch for a rounding error.
    Raises UnknownPart for a missing library, an unknown explainer or argument.
    """
    levels = tuple(background) if isinstance(background, list) else (background,)
    made = Shap(name, levels, arguments)
    foreign.check_arguments(made.where, arguments, made._class, made._class.shap_values)
    return made


@dataclass(frozen=True)
class Shap:
    """An explainer of shap, image by image from the same stream. Signed maps (n, c, h, w). Make it with ``shap``."""

    name: str
    background: tuple[float, ...] = (0.5,)
    arguments: Mapping[str, object] = field(default_factory=dict)

    signed: ClassVar[bool] = True

    @property
    def where(self) -> str:
        return f"shap:{self.name}"

    @property
    def family(self) -> Family:
        return "gradients" if self.name == "GradientExplainer" else "propagation"

    @property
    def stochastic(self) -> bool:
        return self.name == "GradientExplainer"

    @property
    def _class(self) -> type:
        library = foreign.library(self.where, "shap", "shap")
        return foreign.member(
            "shap", {n: getattr(library, n) for n in ("GradientExplainer", "DeepExplainer")}, self.name
        )

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> np.ndarray:
        own, seed = foreign.own_copy(model), foreign.stream_seed()
        with foreign.quietly(), seeding.forked(seed):
            maps = [self._explain(own, image, int(target), seed) for image, target in zip(inputs, targets, strict=True)]
        return np.stack(maps)

    def _explain(self, model: nn.Module, image: Tensor, target: int, seed: int) -> np.ndarray:
        levels = image.new_tensor(self.background)[:, None, None, None].expand(-1, *image.shape)
        explainer = self._class(
            foreign.OneLogit(model, target), levels, **foreign.accepted(self.arguments, self._class)
        )
        given = foreign.accepted(self.arguments, self._class.shap_values)
        parameters = foreign.taken(self._class.shap_values)
        given |= {
            k: v for k, v in {"rseed": seed, "check_additivity": False}.items() if k in parameters and k not in given
        }
        values = np.asarray(explainer.shap_values(image.detach()[None].clone(), **given))
        return values.reshape(image.shape)


def lime(
    name: str = "LimeImageExplainer", *, segments: Segmentation = "grid", side: int = 4, **arguments: object
) -> Lime:
    """lime's ``LimeImageExplainer``, one image at a time, e.g. ``lime("LimeImageExplainer", num_samples=200)``.

    Pieces as in our own LIME (``segments``, ``side``); other arguments go to the explainer or to ``explain_instance``.
    It is given logits. A map of zeros, lime's answer where it finds nothing, counts as silent in a run.
    Raises UnknownPart for a missing library, an unknown name or argument.
    """
    made = Lime(name, segments, side, arguments)
    foreign.check_arguments(made.where, arguments, made._class, made._class.explain_instance)
    return made


@dataclass(frozen=True)
class Lime:
    """lime's image explainer. Signed maps (n, h, w), a piece's weight on each of its pixels. Make it with ``lime``."""

    name: str = "LimeImageExplainer"
    segments: Segmentation = "grid"
    side: int = 4
    arguments: Mapping[str, object] = field(default_factory=dict)

    family: ClassVar[Family] = "perturbation"
    signed: ClassVar[bool] = True
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        cutting.check(self)

    @property
    def where(self) -> str:
        return f"lime:{self.name}"

    @property
    def _class(self) -> type:
        library = foreign.library(self.where, "lime.lime_image", "lime")
        return foreign.member("lime", {"LimeImageExplainer": library.LimeImageExplainer}, self.name)

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> np.ndarray:
        own, seed = foreign.own_copy(model), foreign.stream_seed()
        pieces = cutting.segment(inputs.detach(), self.segments, self.side).cpu().numpy()
        with foreign.quietly(grad=False), seeding.forked(seed):
            maps = [self._explain(own, inputs[i], int(targets[i]), pieces[i], seed) for i in range(len(inputs))]
        return np.stack(maps)

    def _explain(self, model: nn.Module, image: Tensor, target: int, pieces: np.ndarray, seed: int) -> np.ndarray:
        channels = len(image)

        def logits(batch: np.ndarray) -> np.ndarray:
            given = torch.as_tensor(batch, dtype=image.dtype, device=image.device).permute(0, 3, 1, 2)
            return model(given[:, :channels]).cpu().numpy()

        colour = image.detach().expand(3, -1, -1).permute(1, 2, 0).cpu().double().numpy()
        explainer = self._class(**{"random_state": seed} | foreign.accepted(self.arguments, self._class))
        given = {"segmentation_fn": lambda _: pieces, "top_labels": None, "random_seed": seed}
        given |= foreign.accepted(self.arguments, self._class.explain_instance)
        found = explainer.explain_instance(colour, logits, labels=(target,), **given)
        weights = np.zeros(pieces.max() + 1)
        for piece, weight in found.local_exp[target]:
            weights[piece] = weight
        return weights[pieces]
