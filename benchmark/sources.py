"""What a part's code is, so that rows computed by an older version of it are never taken for this one's."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

from unfooled import plugins
from unfooled.plugins import Kind
from unfooled.types import Part


def fingerprint(part: Part, kind: Kind = "interpreters") -> str:
    """16 hex digits of the source of a part and of the modules of its own that it imports.

    Its own are those of its package (ours: of its folder), or beside it where it is a single file; what they import is
    read and not run, so that the answer does not depend on what was loaded before. Of an installed package the module
    alone counts, and of a library behind an adapter its version. Parts among the arguments are included.
    """
    wrapped = [fingerprint(value, kind) for _, value in sorted(part.arguments.items()) if isinstance(value, Part)]
    target = plugins.find(kind, part.use)
    module = inspect.getmodule(getattr(target, "func", target))
    files = _files(module) if module else []
    text = b"".join(path.read_bytes() for path in files)
    return hashlib.sha256(text + "".join([*wrapped, *_versions(part, kind)]).encode()).hexdigest()[:16]


def _versions(part: Part, kind: Kind) -> list[str]:
    """The library that an adapter asks, with its version: rows of an older one are not this one's."""
    library, colon, _ = part.use.partition(":")
    if kind != "interpreters" or not colon or library not in plugins.names("adapters"):
        return []
    return [f"{name} {importlib.metadata.version(name)}" for name in sorted(set(_distributions().get(library, ())))]


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


def _files(module: ModuleType) -> list[Path]:
    """The module's file first, then in order of their names those that it needs."""
    own = _path(module.__name__) or Path(getattr(module, "__file__", None) or "")
    if not own.is_file() or own.suffix != ".py":
        return []
    if "site-packages" in own.parts:
        return [own]
    found, waiting = {module.__name__: own}, [module.__name__]
    while waiting:
        name = waiting.pop()
        path = found[name]
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for other in _imported(package, path.read_bytes()):
            path = _path(other) if other not in found and _belongs(other, module.__name__) else None
            if path and "site-packages" not in path.parts and _near(path, own, module.__name__):
                found[other] = path
                waiting.append(other)
    return [own, *(path for name, path in sorted(found.items()) if name != module.__name__)]


def _belongs(other: str, to: str) -> bool:
    """Is it of the same package? Ours: of the same folder. Beside a single file anything may be."""
    if to.startswith("unfooled."):
        return other.startswith(to.rpartition(".")[0] + ".")
    return "." not in to or other.split(".")[0] == to.split(".")[0]


def _near(path: Path, own: Path, name: str) -> bool:
    return "." in name or own.parent in path.parents


def _path(name: str) -> Path | None:
    """Where a module's source lies; None where it has none, or cannot be imported."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    path = Path(spec.origin) if spec and spec.origin else None
    return path.resolve() if path and path.suffix == ".py" and path.is_file() else None


@functools.cache
def _imported(package: str, source: bytes) -> frozenset[str]:
    """What a source imports, by name; of ``from a import b`` both ``a`` and ``a.b``, which may be a module."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return frozenset(found - {""})


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """What ``from ..a import b`` names, written out."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    above = ".".join(parts[: len(parts) - node.level + 1])
    return ".".join(word for word in (above, node.module) if word)
