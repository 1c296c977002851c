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
from unfooled.types import Family, UnknownPart


def quantus(name: str, **arguments: object) -> Quantus:
    """A function ``(model, inputs, targets, **kwargs) → array`` on arrays, as Quantus takes it.

    ``package.module:function`` (or ``package.module.function``) names anyone's function; a bare word is a method of
    ``quantus.explain`` on Captum, e.g. ``quantus("IntegratedGradients")``. ``explain`` passes over most arguments of a
    method in silence (of IntegratedGradients it takes 10 steps, whatever ``n_steps`` is), so only those are taken that
    it looks at. Its layer methods run a layer's name as code and are not offered.

    Raises UnknownPart where it cannot be found, for arguments that it does not take, and for one that is missing.
    """
    made = Quantus(name, arguments)
    made.check()
    return made


_MADE = "xai_lib_kwargs"
"""what the class of Captum's method is made with"""
_EXPLAINED = {
    **dict.fromkeys(("GradientShap", "IntegratedGradients", "DeepLift", "DeepLiftShap"), ("baseline", _MADE)),
    **dict.fromkeys(("InputXGradient", "Saliency", "Gradient", "FeatureAblation", "FeaturePermutation"), (_MADE,)),
    **dict.fromkeys(("Deconvolution", "Lime", "KernelShap", "LRP"), (_MADE,)),
    "Occlusion": ("window",),
}
"""method of ``quantus.explain`` (0.6) → the arguments of its own that it looks at"""
_EXPLAINED_ALL = ("softmax", "reduce_axes", "keepdims", "channel_first", "device")


@dataclass(frozen=True)
class Quantus:
    """A function on arrays: called by keyword with inputs (n, c, h, w) and targets (n,). Make it with ``quantus``."""

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)

    family: ClassVar[Family] = "other"

    @property
    def where(self) -> str:
        return f"quantus:{self.name}"

    @property
    def _a_method(self) -> bool:
        return "." not in self.name and ":" not in self.name

    def function(self) -> Callable:
        """What is called. Raises UnknownPart."""
        if self._a_method:
            foreign.library(self.where, "captum.attr", "captum")  # explain takes another library where it is missing
            return foreign.library(self.where, "quantus", "quantus").explain
        module, _, function = self.name.replace(":", ".").rpartition(".")
        return plugins.find("interpreters", f"{module}:{function}")

    def check(self) -> None:
        """Raise UnknownPart for what the function would not take, or would pass over."""
        function = self.function()
        if self._a_method:
            self._check_method()
        else:
            self._check_function(function)

    def _check_method(self) -> None:
        own = foreign.member("quantus", _EXPLAINED, self.name)
        foreign.check_words(self.where, self.arguments, (*own, *_EXPLAINED_ALL))
        captum = foreign.library(self.where, "captum.attr", "captum")
        method = captum.Saliency if self.name == "Gradient" else getattr(captum, self.name)
        foreign.check_words(f"{self.where}: {_MADE}", self.arguments.get(_MADE, {}), foreign.taken(method))

    def _check_function(self, function: Callable) -> None:
        parameters = inspect.signature(function).parameters
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        if not takes_any and (missing := {"model", "inputs", "targets"} - parameters.keys()):
            raise UnknownPart(f"{self.where}: takes no {' and no '.join(sorted(missing))}; a function (model, inputs, "
                              "targets, …) is right")  # fmt: skip
        given = {"device": None} if "device" in parameters else {}
        given |= {k: v for k, v in self.arguments.items() if k in parameters or not takes_any}
        foreign.check_arguments(self.where, given, function)

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> np.ndarray:
        function, given = self.function(), dict(self.arguments)
        if self._a_method:
            given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()} | {"method": self.name}
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
