"""What an interpreter's code is: so that rows computed by an older version of it are never taken for this one's."""

from __future__ import annotations

import hashlib
import inspect
import sys
from pathlib import Path

from unfooled import plugins
from unfooled.types import Part


def fingerprint(part: Part) -> str:
    """16 hex digits of the source of the interpreter and of what it was imported with.

    Ours: the module alone. Anyone else's: every loaded module below the folder of its own (its package's, where it has
    one), so that a helper beside it counts too. Wrapped interpreters (arguments that are Parts) are included.
    """
    wrapped = [fingerprint(value) for _, value in sorted(part.arguments.items()) if isinstance(value, Part)]
    target = plugins.find("interpreters", part.use)
    module = inspect.getmodule(getattr(target, "func", target))
    files = _files(module) if module else []
    text = b"".join(path.read_bytes() for path in files)
    return hashlib.sha256(text + "".join(wrapped).encode()).hexdigest()[:16]


def _files(module: object) -> list[Path]:
    own = Path(module.__file__).resolve() if getattr(module, "__file__", None) else None
    if own is None:
        return []
    if module.__name__.startswith("unfooled.") or "site-packages" in own.parts:
        return [own]
    top = module.__name__.split(".")[0]
    folder = Path(sys.modules[top].__file__).resolve().parent if top in sys.modules else own.parent
    loaded = {
        Path(m.__file__).resolve()
        for m in list(sys.modules.values())
        if getattr(m, "__file__", None) and m.__file__.endswith(".py")
    }
    return sorted({own} | {p for p in loaded if folder in p.parents and "site-packages" not in p.parts})
