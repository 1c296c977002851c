"""Was the model left as it was? A snapshot of all that an interpreter could change: it finds and undoes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.backends import cudnn
from torch.nn.modules import module

from unfooled.types import UnfooledError


class TouchedModel(UnfooledError):
    """An interpreter changed the model, the images it was given or torch's settings. By now all is put back."""

    exit_code = 3


MODULE_STATE = frozenset(vars(nn.Module()))
"""What every module keeps about itself: parameters, buffers, children, hooks, the training flag."""

HOOKS = tuple(sorted(name for name in MODULE_STATE if "hook" in name and name != "_is_full_backward_hook"))
"""``_is_full_backward_hook`` is left out: it stays set after the hook was properly removed, and does nothing then."""

SETTINGS: Mapping[str, tuple[Callable[[], object], Callable]] = {
    "torch.is_grad_enabled()": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch.get_default_dtype()": (torch.get_default_dtype, torch.set_default_dtype),
    "torch.get_num_threads()": (torch.get_num_threads, torch.set_num_threads),
    "torch.get_deterministic_debug_mode()": (
        torch.get_deterministic_debug_mode,
        lambda mode: torch.use_deterministic_algorithms(mode > 0, warn_only=mode == 1),
    ),
    **{
        f"torch.backends.cudnn.{flag}": (partial(getattr, cudnn, flag), partial(setattr, cudnn, flag))
        for flag in ("enabled", "benchmark", "deterministic", "allow_tf32")
    },
}

GLOBAL_HOOKS = tuple(
    sorted(n for n, held in vars(module).items() if n.startswith("_global") and "hook" in n and isinstance(held, dict))
)
"""Where torch keeps the hooks that run on every module of every model, whoever is asked next included."""


@contextmanager
def untouched(
    model: nn.Module, inputs: Tensor | None = None, targets: Tensor | None = None, who: str = "interpreter"
) -> Iterator[Snapshot]:
    """Run a block that must leave the model, the given tensors and torch's settings as they are.

    Watched: weights and buffers by value, gradients, hooks, training and ``requires_grad`` flags, submodules, a patched
    ``forward``, the settings of torch's own layers; of the tensors values, gradients and flags; torch's grad mode,
    default dtype, thread count, determinism, cuDNN flags and global module hooks. Whatever was changed is put back in
    any case. Raises TouchedModel, naming what was changed, unless the block raised by itself.
    """
    before = snapshot(model, inputs=inputs, targets=targets)
    try:
        yield before
    except BaseException:
        before.restore()
        raise
    if changes := before.changes():
        before.restore()
        raise TouchedModel(f"{who}: changed {'; '.join(changes)}; it must work on a copy or put everything back")


def snapshot(model: nn.Module, **tensors: Tensor | None) -> Snapshot:
    """The state of a model and of some named tensors, now."""
    named = {name: t for name, t in tensors.items() if t is not None}
    kept = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return Snapshot(
        tuple(_ModuleState.of(path or "the model", module) for path, module in model.named_modules()),
        tuple(_TensorState.of(name, t) for name, t in {**kept, **named}.items()),
        {name: get() for name, (get, _) in SETTINGS.items()},
        {name: dict(getattr(module, name)) for name in GLOBAL_HOOKS},
        module._global_is_full_backward_hook,
    )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a model and some tensors were like."""

    modules: tuple[_ModuleState, ...]
    tensors: tuple[_TensorState, ...]
    settings: Mapping[str, object]
    global_hooks: Mapping[str, dict]
    full_backward: bool | None
    """what kind the global backward hooks are; it stays set after they were properly removed, so it is no change"""

    def changes(self) -> list[str]:
        """What differs now, in words, grouped by kind: ``gradients of conv.weight, conv.bias and 4 more``."""
        found: dict[str, list[str]] = {}
        for state in (*self.modules, *self.tensors):
            for kind in state.changes():
                found.setdefault(kind, []).append(state.name)
        settings = [name for name, (get, _) in SETTINGS.items() if get() != self.settings[name]]
        hooks = [name for name, held in self.global_hooks.items() if dict(getattr(module, name)) != held]
        everywhere = [f"hooks on all modules ({', '.join(hooks)})"] if hooks else []
        return [f"{kind} {_some(names)}" for kind, names in found.items()] + settings + everywhere

    def restore(self) -> None:
        """Put everything back."""
        for state in (*self.modules, *self.tensors):
            state.restore()
        for name, (get, put) in SETTINGS.items():
            if get() != self.settings[name]:
                put(self.settings[name])
        for name, held in self.global_hooks.items():
            now = getattr(module, name)  # the same dict stays: handles point to it
            if dict(now) != held:
                now.clear()
                now.update(held)
        module._global_is_full_backward_hook = self.full_backward


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@dataclass(frozen=True, slots=True)
class _ModuleState:
    name: str
    module: nn.Module
    attributes: dict[str, object]
    """its ``__dict__``, as it was"""
    contents: dict[str, dict | set]
    """copies of the containers among them"""

    @classmethod
    def of(cls, name: str, module: nn.Module) -> _ModuleState:
        attributes = _watched(module)
        return cls(name, module, attributes, {k: v.copy() for k, v in attributes.items() if isinstance(v, dict | set)})

    def changes(self) -> Iterator[str]:
        now = vars(self.module)
        if now["training"] != self.attributes["training"]:
            yield "the training flag of"
        for members in ("_parameters", "_buffers", "_modules"):
            if not _same_members(now[members], self.contents[members]):
                yield f"the {members[1:]} in"
        if any(now[name] != self.contents[name] for name in HOOKS):
            yield "hooks on"
        yield from (f"{name!r} of" for name in sorted(self._settings_changed()))

    def _settings_changed(self) -> set[str]:
        before, now = self.attributes.keys() - MODULE_STATE, _watched(self.module)
        return {n for n in before | (now.keys() - MODULE_STATE) if self.attributes.get(n) is not now.get(n)}

    def restore(self) -> None:
        state = vars(self.module)
        for name in _watched(self.module).keys() - self.attributes.keys():
            del state[name]
        for name, content in self.contents.items():
            container = self.attributes[name]
            container.clear()
            container.update(content)
        state.update(self.attributes)


def _watched(module: nn.Module) -> dict[str, object]:
    """A module's state: all of it for torch's layers, which never write to themselves; a user's may keep notes."""
    if type(module).__module__.startswith("torch.nn."):
        return dict(vars(module))
    return {k: v for k, v in vars(module).items() if k in MODULE_STATE or k == "forward"}


def _same_members(now: dict, before: dict) -> bool:
    return now.keys() == before.keys() and all(now[name] is before[name] for name in before)


@dataclass(frozen=True, slots=True)
class _TensorState:
    name: str
    tensor: Tensor
    values: Tensor
    requires_grad: bool
    gradient: Tensor | None
    gradient_values: Tensor | None
    hooks: dict | None

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> _TensorState:
        gradient = tensor.grad if tensor.is_leaf else None
        hooks = tensor._backward_hooks
        return cls(
            name,
            tensor,
            tensor.detach().clone(),
            tensor.requires_grad,
            gradient,
            None if gradient is None else gradient.detach().clone(),
            None if hooks is None else dict(hooks),
        )

    def changes(self) -> Iterator[str]:
        if not _same_values(self.tensor, self.values):
            yield "the values of"
        if self.tensor.requires_grad != self.requires_grad:
            yield "requires_grad of"
        if self._gradient_changed():
            yield "gradients of"
        if dict(self.tensor._backward_hooks or {}) != (self.hooks or {}):
            yield "hooks on"

    def _gradient_changed(self) -> bool:
        now = self.tensor.grad if self.tensor.is_leaf else None
        if now is None or self.gradient_values is None:
            return now is not self.gradient_values
        return not _same_values(now, self.gradient_values)

    def restore(self) -> None:
        if self.tensor.shape != self.values.shape or self.tensor.dtype != self.values.dtype:
            self.tensor.data = self.values
        with torch.no_grad():
            self.tensor.copy_(self.values)  # in place, since others may hold views of it
            if self.gradient is not None:
                self.gradient.copy_(self.gradient_values)
        if self.tensor.is_leaf:
            self.tensor.requires_grad_(self.requires_grad)
            self.tensor.grad = self.gradient
        self.tensor._backward_hooks = self.hooks


def _same_values(now: Tensor, before: Tensor) -> bool:
    """Bit by bit but for NaN, which equals itself here: a diverged model is still the same model."""
    now = now.detach()
    if now.shape != before.shape or now.dtype != before.dtype or now.device != before.device:
        return False
    return torch.equal(now, before) or torch.allclose(now, before, rtol=0, atol=0, equal_nan=True)
