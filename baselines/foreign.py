"""What every adapter of another library needs: the library, its arguments checked, a model of its own, quiet."""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import io
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import ModuleType

import torch
from torch import Tensor, nn

from unfooled import plugins
from unfooled.types import UnknownPart

OURS = frozenset(
    {"self", "model", "forward_func", "layer", "target_layers", "attribution_method", "kwargs"}
) | frozenset(
    {
        "inputs",
        "input_tensor",
        "X",
        "image",
        "data",
        "target",
        "targets",
        "labels",
        "classifier_fn",
        "additional_forward_args",
    }
)
"""Parameters of foreign functions that an adapter fills by itself."""


def library(where: str, module: str, package: str) -> ModuleType:
    """A module of an optional library. Raises UnknownPart, naming what to install, where it is missing."""
    try:
        from unfooled import vision  # noqa: F401 - several of them import torchvision, which may need a hand

        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        own = str(error.name).partition(".")[0] == module.partition(".")[0]
        missing = package if own else f"{error.name} (for {package})"
        raise UnknownPart(
            f'{where}: needs {missing}, which is not installed; pip install "unfooled[interop]"'
        ) from error


def member(where: str, offered: Mapping[str, Callable], name: str) -> Callable:
    """One of what a library offers. Raises UnknownPart with the near miss."""
    if name not in offered:
        same = [n for n in offered if n.lower() == name.lower()]
        hint = plugins.near_miss(same[0] if same else name, offered) or f"; it has {', '.join(sorted(offered))}"
        raise UnknownPart(f"{where}: no {name!r}{hint}")
    return offered[name]


def classes(module: ModuleType, base: type) -> dict[str, type]:
    """The public classes of a module that are of a kind, by name."""
    return {n: c for n, c in vars(module).items() if inspect.isclass(c) and issubclass(c, base) and n[0] != "_"}


def taken(function: Callable) -> dict[str, inspect.Parameter]:
    """The parameters of a foreign function that a user may fill."""
    return {n: p for n, p in inspect.signature(function).parameters.items() if n not in OURS}


def check_arguments(where: str, arguments: Mapping[str, object], *functions: Callable) -> None:
    """Raise UnknownPart for an argument that none of the functions takes, and for one that is missing."""
    known = {name: p for f in functions for name, p in taken(f).items()}
    check_words(where, arguments, known)
    needed = [n for n, p in known.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if missing := [n for n in needed if n not in arguments]:
        raise UnknownPart(f"{where}: {', '.join(missing)} must be given")


def check_words(where: str, arguments: Iterable[str], known: Collection[str]) -> None:
    """Raise UnknownPart, with the near miss, for an argument that is not among those known."""
    for name in arguments:
        if name not in known:
            hint = plugins.near_miss(name, known) or f"; it takes {', '.join(known) or 'none'}"
            raise UnknownPart(f"{where}: no argument {name!r}{hint}")


def check_layer(where: str, layer: object) -> None:
    """Raise UnknownPart for a layer that is no word."""
    if not isinstance(layer, str | None):
        raise UnknownPart(f"{where}: layer is {layer!r}; 'T' or the dotted path of a module is right, as a word")


def accepted(arguments: Mapping[str, object], function: Callable) -> dict[str, object]:
    """The arguments that this function takes; lists, as YAML writes them, become tuples."""
    names = taken(function)
    return {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items() if k in names}


def own_copy(model: nn.Module) -> nn.Module:
    """A copy for a library to do as it likes with: gradients, hooks, rules and flags it leaves behind die with it."""
    return copy.deepcopy(model)


def target_layer(where: str, model: nn.Module) -> str:
    """The path of the module whose input is T. Raises UnknownPart where the model does not name it."""
    path = getattr(model, "target_layer", None)
    if not isinstance(path, str):
        raise UnknownPart(f"{where}: the model names no T (target_layer); give layer the dotted path of a module")
    return path


def submodule(where: str, model: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path. Raises UnknownPart with the near miss."""
    modules = dict(model.named_modules())
    if path not in modules:
        hint = plugins.near_miss(path, modules) or f"; it has {', '.join(n for n, _ in model.named_children())}, …"
        raise UnknownPart(f"{where}: the model has no layer {path!r}{hint}")
    return modules[path]


def replace_module(model: nn.Module, path: str, new: nn.Module) -> None:
    """Put another module in the place of the one at a dotted path."""
    parent, _, name = path.rpartition(".")
    model.get_submodule(parent)._modules[name] = new


@contextlib.contextmanager
def quietly(grad: bool = True) -> Iterator[None]:
    """Without a library's warnings and progress bars, and with gradients on; what it raises comes through."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        torch.set_grad_enabled(grad),
    ):
        warnings.simplefilter("ignore")
        yield


def stream_seed() -> int:
    """A seed for a library that wants a number (below 2³²), from torch's global stream."""
    return int(torch.randint(2**31, ()))


class OneLogit(nn.Module):
    """A model that says one class only: (n, 1). Spares a library the other classes, and us the choice among them."""

    def __init__(self, model: nn.Module, target: int):
        super().__init__()
        self.model, self.target = model, target

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)[:, self.target, None]
