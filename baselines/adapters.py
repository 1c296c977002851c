"""Captum and pytorch-grad-cam as interpreters: ``captum:IntegratedGradients``, with the library's arguments.

Every adapter hands the library a copy of the model and of the inputs, so that nothing it leaves behind (gradients,
hooks, rules, flags) reaches the model. Arguments are checked against the library's signatures when the adapter is made.
The libraries are optional (``pip install "unfooled[interop]"``) and imported when first named. None is attackable.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from unfooled import seeding
from unfooled.baselines import foreign, segments
from unfooled.types import Family, UnknownPart

_PERTURBING = ("Ablation", "Permutation", "Occlusion", "Lime", "KernelShap", "Shapley")
_PROPAGATING = ("DeepLift", "LRP", "GuidedBackprop", "Deconvolution")
_STOCHASTIC = ("Permutation", "Lime", "KernelShap", "GradientShap", "ShapleyValueSampling", "NoiseTunnel")
_BY_BATCH = ("GradientShap", "NoiseTunnel", "Lime", "KernelShap")
"""what Captum draws for an image depends on its place in the batch"""
_BY_SKLEARN = ("Lime", "KernelShap")


def captum(name: str, *, layer: str | None = None, inner: Captum | str | None = None, **arguments: object) -> Captum:
    """A Captum attribution method under its class name, e.g. ``captum("IntegratedGradients", n_steps=32)``.

    ``layer`` ("T", the default of layer methods, or a dotted path) is for layer methods, ``inner`` for NoiseTunnel. All
    other arguments go to the constructor or to ``attribute``, whichever takes them. A number as ``baselines`` is a grey
    image, where Captum wants a tensor; a number as ``feature_mask`` is the side of a grid of features. Captum's own
    defaults hold, so LayerGradCam wants ``relu_attributions=True`` to be Grad-CAM; but Lime fits by the authors' ridge
    (α = 1), since Captum's lasso answers with zeros on a small network (its issues 679 and 1008).

    Raises UnknownPart for a missing library, an unknown method or argument, or a required argument that is missing.
    """
    made = Captum(name, arguments, layer, captum(inner) if isinstance(inner, str) else inner)
    made.check()
    return made


@dataclass(frozen=True)
class Captum:
    """A Captum method. Maps have the shape of the input, (n, c, h, w), or of the layer. Make it with ``captum``."""

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    layer: str | None = None
    inner: Captum | None = None

    @property
    def where(self) -> str:
        return f"captum:{self.name}"

    @property
    def family(self) -> Family:
        if self.inner:
            return self.inner.family
        if any(word in self.name for word in _PERTURBING):
            return "perturbation"
        if any(word in self.name for word in _PROPAGATING):
            return "propagation"
        return "activations" if self._on_layer else "gradients"

    @property
    def at(self) -> str:
        return "T" if self._on_layer and self.name != "GuidedGradCam" and self.layer in (None, "T") else "input"

    @property
    def stochastic(self) -> bool:
        return any(word in self.name for word in _STOCHASTIC)

    @property
    def signed(self) -> bool:
        return self.name != "Saliency" or self.arguments.get("abs") is False

    @property
    def _on_layer(self) -> bool:
        return "layer" in inspect.signature(self._class).parameters

    @property
    def _class(self) -> type:
        attr = foreign.library(self.where, "captum.attr", "captum")
        methods = foreign.classes(attr, attr.Attribution)
        usable = {n: c for n, c in methods.items() if not n.startswith(("Neuron", "LLM", "Remote", "LimeBase"))}
        usable["NoiseTunnel"] = attr.NoiseTunnel
        return foreign.member("captum", {n: c for n, c in usable.items() if _explains_images(c)}, self.name)

    def check(self) -> None:
        """Raise UnknownPart for what Captum would not take."""
        foreign.check_arguments(self.where, self.arguments, self._class, self._class.attribute)
        if self.layer is not None and not self._on_layer:
            raise UnknownPart(f"{self.where}: looks at no layer; leave out layer={self.layer!r}")
        foreign.check_layer(self.where, self.layer)
        if (self.name == "NoiseTunnel") != isinstance(self.inner, Captum):
            raise UnknownPart(f"{self.where}: inner is the method of captum that NoiseTunnel wraps; only and always it "
                              "takes one")  # fmt: skip
        if self.name in _BY_SKLEARN:
            foreign.library(self.where, "sklearn", "scikit-learn")

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        own, grad = foreign.own_copy(model), self.family != "perturbation"
        images = inputs.detach().clone().requires_grad_(grad)
        if "LRP" in self.name:
            give_rules(own)
        with foreign.quietly(grad):
            if not any(word in self.name for word in _BY_BATCH):
                return self._attribute(own, images, targets)
            # Asked one by one from the same stream, an image's map does not depend on the batch.
            seed, maps = foreign.stream_seed(), []
            for i in range(len(images)):
                with seeding.forked(seed):
                    maps.append(self._attribute(own, images[i : i + 1], targets[i : i + 1]))
            return torch.cat(maps)

    def _attribute(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        method = self._build(model)
        given = self._call_arguments(model, images)
        if self.name != "LayerActivation":
            given["target"] = targets
        answer = method.attribute(images, **given)
        answer = answer[0] if isinstance(answer, tuple) else answer
        return answer.detach()

    def _build(self, model: nn.Module) -> object:
        if self.inner:
            return self._class(self.inner._build(model))
        made_of = foreign.accepted(self.arguments, self._class)
        if self.name == "Lime":
            made_of.setdefault("interpretable_model", _ridge())
        if self._on_layer:
            path = foreign.target_layer(self.where, model) if self.layer in (None, "T") else self.layer
            made_of["layer"] = foreign.submodule(self.where, model, path)
        return self._class(model, **made_of)

    def _call_arguments(self, model: nn.Module, images: Tensor, greys: int = 2) -> dict[str, object]:
        """``greys``: how many images a number as ``baselines`` becomes, where a method takes a distribution."""
        given = {} if self.inner is None else self.inner._call_arguments(model, images, 1)  # repeated for every sample
        given |= foreign.accepted(self.arguments, self._class.attribute)
        parameters = inspect.signature(self._class.attribute).parameters
        if self.layer in (None, "T") and "attribute_to_layer_input" in parameters:
            given.setdefault("attribute_to_layer_input", True)  # T is the input of its layer
        if isinstance(given.get("baselines"), (int, float)) and "Shap" in self.name and self.name != "KernelShap":
            given["baselines"] = images.new_full((greys, *images.shape[1:]), given["baselines"])
        if isinstance(side := given.get("feature_mask"), int):
            given["feature_mask"] = segments.segment(images[:1], "grid", side)[:, None]
        return given


def _explains_images(method: type) -> bool:
    """Neither a base class, which cannot be asked, nor a wrapper that wants a loader."""
    attribute = getattr(method, "attribute", None)
    return attribute is not None and "inputs" in inspect.signature(attribute).parameters


def _ridge() -> object:
    from captum._utils.models.linear_model import SkLearnRidge

    return SkLearnRidge(alpha=1.0)


def give_rules(model: nn.Module) -> None:
    """What Captum's LRP needs to know of our modules: sums are its own module, normalisation passes relevance on."""
    from captum.attr._utils.custom_modules import Addition_Module
    from captum.attr._utils.lrp_rules import EpsilonRule, IdentityRule

    from unfooled.blocks import Add, Normalise

    for path, module in list(model.named_modules()):
        if isinstance(module, Add):
            foreign.replace_module(model, path, Addition_Module())
        elif isinstance(module, (Normalise, nn.Identity)):
            module.rule = IdentityRule()
        elif isinstance(module, nn.Flatten):
            module.rule = EpsilonRule()


def pytorch_grad_cam(name: str, *, layer: str = "T", **arguments: object) -> PytorchGradCam:
    """A class activation map of pytorch-grad-cam under its class name, e.g. ``pytorch_grad_cam("HiResCAM")``.

    ``layer`` is "T" or the dotted path of a module whose output is taken; other arguments go to the class or to its
    call. Raises UnknownPart for a missing library, an unknown class or argument.
    """
    made = PytorchGradCam(name, layer, arguments)
    foreign.check_arguments(made.where, arguments, made._class, made._class.__call__)
    foreign.check_layer(made.where, layer)
    return made


@dataclass(frozen=True)
class PytorchGradCam:
    """A class activation map, (n, h, w), each scaled to [0, 1] by the library. Make it with ``pytorch_grad_cam``.

    One target is given for each image; used without its context manager, the library swallows no error.
    """

    name: str
    layer: str = "T"
    arguments: Mapping[str, object] = field(default_factory=dict)

    family: ClassVar[Family] = "activations"
    signed: ClassVar[bool] = False

    @property
    def where(self) -> str:
        return f"pytorch_grad_cam:{self.name}"

    @property
    def at(self) -> str:
        return "T" if self.layer == "T" else "input"

    @property
    def stochastic(self) -> bool:
        return self.name == "RandomCAM"

    @property
    def _class(self) -> type:
        package = foreign.library(self.where, "pytorch_grad_cam", "grad-cam")
        base = foreign.library(self.where, "pytorch_grad_cam.base_cam", "grad-cam").BaseCAM
        return foreign.member("pytorch_grad_cam", foreign.classes(package, base), self.name)

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> np.ndarray:
        goals = foreign.library(self.where, "pytorch_grad_cam.utils.model_targets", "grad-cam")
        own, kind = foreign.own_copy(model).requires_grad_(False), self._class
        with foreign.quietly(), seeding.forked(foreign.stream_seed()):
            cam = kind(own, [self._layer(own)], **foreign.accepted(self.arguments, kind))
            try:
                wanted = [goals.ClassifierOutputTarget(int(target)) for target in targets]
                leaf = inputs.detach().clone().requires_grad_()
                return cam(leaf, wanted, **foreign.accepted(self.arguments, kind.__call__))
            finally:
                cam.activations_and_grads.release()

    def _layer(self, model: nn.Module) -> nn.Module:
        """The module whose output is asked for; T, an input, becomes the output of a module put before its layer."""
        if self.layer != "T":
            return foreign.submodule(self.where, model, self.layer)
        path = foreign.target_layer(self.where, model)
        probe = nn.Identity()
        foreign.replace_module(model, path, nn.Sequential(probe, foreign.submodule(self.where, model, path)))
        return probe
