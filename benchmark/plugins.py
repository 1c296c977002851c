"""Name → object. The catalogue is the entry points of installed packages; ``package.module:Name`` works everywhere."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import importlib.metadata
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Literal, get_args

from unfooled.types import Family, NotAttackable, Part, UnfooledError, UnknownPart

Kind = Literal["interpreters", "manipulations", "metrics", "datasets", "models", "adapters"]
KINDS: tuple[Kind, ...] = ("interpreters", "manipulations", "metrics", "datasets", "models")


@functools.cache  # what is installed does not change while a process runs, and reading it takes 30 ms
def _entry_points(kind: Kind) -> dict[str, importlib.metadata.EntryPoint]:
    return {e.name: e for e in importlib.metadata.entry_points(group=f"unfooled.{kind}")}


def names(kind: Kind) -> list[str]:
    """The catalogue's names of one kind, sorted; nothing is imported."""
    return sorted(_entry_points(kind))


def ours(kind: Kind, name: str) -> bool:
    """Is it one of unfooled's own? A module's, and what another installed package offers, is not."""
    points = _entry_points(kind)
    return name in points and points[name].value.startswith("unfooled.")


def near_miss(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where a known word is close, else an empty string."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def find(kind: Kind, name: str) -> Callable:
    """The object behind a catalogue name, ``adapter:Name`` (interpreters) or ``package.module:Name``.

    Raises UnknownPart with the near miss. The working directory is searched last.
    """
    points = _entry_points(kind)
    if name in points:
        return points[name].load()
    if ":" not in name:
        known = ", ".join(sorted(points)) or "nothing"
        hint = near_miss(name, points) or f"; the catalogue has {known}, and package.module:Name works too"
        raise UnknownPart(f"{kind}: no {name!r}{hint}")
    module_name, _, attribute = name.partition(":")
    if kind == "interpreters" and module_name in (adapters := _entry_points("adapters")):
        if not attribute:
            raise UnknownPart(f"{kind}: {name!r} names nothing of {module_name}; write its method behind the colon")
        return functools.partial(adapters[module_name].load(), attribute)
    _check_form(kind, name, module_name, attribute)
    return _from_module(kind, name, module_name, attribute)


def _check_form(kind: Kind, name: str, module_name: str, attribute: str) -> None:
    """A path in the place of a module, as a shell completes it, or nothing at all."""
    if module_name.endswith(".py"):
        module = Path(module_name).with_suffix("").as_posix().removeprefix("./").replace("/", ".")
        raise UnknownPart(f"{kind}: {name!r} names a file; did you mean '{module}:{attribute}'?")
    if not all(word.isidentifier() for word in (*module_name.split("."), *attribute.split("."))):
        hint = near_miss(module_name.lower().replace("-", "_"), _entry_points("adapters"))
        raise UnknownPart(f"{kind}: {name!r} is no package.module:Name{hint}")


def _from_module(kind: Kind, name: str, module_name: str, attribute: str) -> Callable:
    cwd = os.getcwd()
    if cwd not in sys.path:
        sys.path.append(cwd)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not (module_name == error.name or module_name.startswith(error.name + ".")):
            raise UnknownPart(f"{kind}: {name!r} needs {error.name!r}, which is not installed; install it") from error
        raise UnknownPart(
            f"{kind}: no module {module_name!r} for {name!r}; it must be importable from {cwd} or installed"
        ) from error
    except (Exception, SystemExit) as error:  # whatever a user's own file raises while it is read
        raise UnknownPart(f"{kind}: {raised(repr(module_name), error)} while it was imported; mend it") from error
    found = module
    for step in attribute.split("."):
        if not hasattr(found, step):
            offered = [n for n in vars(module) if not n.startswith("_")]
            raise UnknownPart(f"{kind}: {module_name!r} has no {attribute!r}{near_miss(attribute, offered)}")
        found = getattr(found, step)
    if not callable(found):
        raise UnknownPart(f"{kind}: {name!r} is of type {type(found).__name__}; it must be a class or a function")
    return found


def build(kind: Kind, part: Part) -> Callable:
    """The part, built: a class is called with the arguments, a function is bound to them.

    A value that is itself a Part is built first, as the same kind. Raises UnknownPart for an argument not taken, and
    for whatever a plug-in raises while it is made.
    """
    try:
        return _built(kind, part)
    except UnfooledError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, OSError) and error.filename is not None:  # the command says which file is missing
            raise
        raise UnknownPart(f"{kind}: {raised(part.label, error)} while it was built; mend it") from error


def _built(kind: Kind, part: Part) -> Callable:
    target = find(kind, part.use)
    arguments = {k: build(kind, v) if isinstance(v, Part) else v for k, v in part.arguments.items()}
    adapter = isinstance(target, functools.partial)
    if not adapter:
        _check_arguments(kind, part.use, target, arguments)
    built = target
    if inspect.isclass(target) or adapter:
        try:
            built = target(**arguments)
        except (TypeError, ValueError) as error:
            raise UnknownPart(f"{kind}: {part.label}: {error}") from error
    elif arguments:
        built = functools.partial(target, **arguments)
    if kind == "interpreters":
        _check_traits(part.label, built)
    return built


def _check_traits(label: str, interpreter: Callable) -> None:
    """A kind that nobody knows would have no kin, and a place that nobody knows no table."""
    for name, known, default in (("family", get_args(Family), "other"), ("at", ("input", "T"), "input")):
        value = trait(interpreter, name, default)
        if value not in known:
            hint = near_miss(str(value), known) or f"; {', '.join(known)} are known"
            raise UnknownPart(f"interpreters: {label}: {name} is {value!r}{hint}")


def check(kind: Kind, part: Part) -> None:
    """Raise UnknownPart where the part, or one among its arguments, is unknown or takes no such argument."""
    target = find(kind, part.use)
    if not isinstance(target, functools.partial):
        _check_arguments(kind, part.use, target, part.arguments)
    for value in part.arguments.values():
        if isinstance(value, Part):
            check(kind, value)


def _check_arguments(kind: Kind, name: str, target: Callable, arguments: Mapping[str, object]) -> None:
    taken = inspect.signature(target).parameters
    if any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        return
    for word, value in arguments.items():
        if word not in taken:
            hint = near_miss(word, taken) or f"; it takes {', '.join(taken) or 'none'}"
            raise UnknownPart(f"{kind}: {name!r} has no argument {word!r}{hint}")
        _check_type(f"{kind}: {name!r}", taken[word], value)


SIMPLE: Mapping[str, type] = {"int": Integral, "float": Real, "bool": Integral, "str": str}
"""Annotation → what fits it. Other annotations are not looked at."""


def _check_type(where: str, parameter: inspect.Parameter, value: object) -> None:
    """A word where a number belongs would end deep in a library that names neither the part nor the argument."""
    annotation = parameter.annotation
    wanted = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    if wanted in SIMPLE and value is not parameter.default and not isinstance(value, SIMPLE[wanted]):
        found = f"{parameter.name} is {value!r}, of type {type(value).__name__}"
        hint = " (in YAML 1.0e-6 is a number, and 1e-6 a word)" if wanted == "float" and isinstance(value, str) else ""
        raise UnknownPart(f"{where}: {found}; {wanted} is right{hint}")


def trait(interpreter: Callable, name: str, default: object) -> object:
    """What an interpreter declares of itself (``family``, ``at``, ``signed``, ``stochastic``), or the default."""
    while isinstance(interpreter, functools.partial):
        interpreter = interpreter.func
    return getattr(interpreter, name, default)


def attackable(interpreter: Callable, label: str) -> Callable:
    """The same interpreter with ``create_graph`` switched on.

    Raises NotAttackable, by name, where it, or what it wraps, has none.
    """
    if reason := _bars_graph(interpreter):
        raise NotAttackable(f"{label}: {reason}; a manipulation needs a map that carries a graph to the weights")
    if dataclasses.is_dataclass(interpreter):
        return dataclasses.replace(interpreter, create_graph=True)
    return functools.partial(interpreter, create_graph=True)


def _bars_graph(interpreter: Callable) -> str:
    """Why its map can carry no graph, or an empty string. What it wraps is its field, or its bound argument, ``of``."""
    if not _takes_graph(interpreter):
        return "has no create_graph"
    bound = interpreter.keywords if isinstance(interpreter, functools.partial) else {}
    inner = bound.get("of", getattr(interpreter, "of", None))
    reason = _bars_graph(inner) if callable(inner) else ""
    return f"wraps {getattr(inner, '__name__', type(inner).__name__)}, which {reason}" if reason else ""


def _takes_graph(interpreter: Callable) -> bool:
    if dataclasses.is_dataclass(interpreter):
        return "create_graph" in {f.name for f in dataclasses.fields(interpreter)}
    return "create_graph" in inspect.signature(interpreter).parameters


def raised(label: str, error: BaseException) -> str:
    """What a part raised, in one line, with the last place outside of torch that it came through."""
    file, line = raised_at(error)
    place = f" ({file.name}:{line})" if line else ""
    text = " ".join(str(error).split())[:300]
    return f"{label}: raised {type(error).__name__}: {text}{place}"


def raised_at(error: BaseException) -> tuple[Path, int]:
    """File and line of the last place outside of torch that an error came through; line 0 where none is known."""
    places = [(Path(f.filename), f.lineno or 0) for f in traceback.extract_tb(error.__traceback__)]
    own = [p for p in places if "torch" not in p[0].parts] or places
    return own[-1] if own else (Path(), 0)
