"""Settings that cannot work are refused when an interpreter is made, in words that name it; nothing else is here."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from math import inf
from numbers import Integral, Real
from typing import NoReturn, get_args


def whole(part: object, *names: str, least: int = 1) -> None:
    """Raise ValueError unless these fields of the part are whole numbers of ``least`` or more."""
    for name in names:
        value = getattr(part, name)
        if not isinstance(value, Integral) or value < least:
            refuse(part, name, f"a whole number of at least {least}")


def number(part: object, *names: str, least: float = -inf, above: float = -inf, below: float = inf) -> None:
    """Raise ValueError unless these fields are finite numbers, at least ``least``, above ``above``, below ``below``."""
    for name in names:
        value = getattr(part, name)
        if not isinstance(value, Real) or not (least <= value < inf and above < value < below):
            hint = " (in YAML 1.0e-6 is a number, and 1e-6 a word)" if isinstance(value, str) else ""
            refuse(part, name, _range(least, above, below) + hint)


def _range(least: float, above: float, below: float) -> str:
    if above > -inf and below < inf:
        return f"between {above} and {below}"
    if above > -inf:
        return f"a number above {above}"
    return f"a number of at least {least}" if least > -inf else "a number"


def one_of(part: object, name: str, known: object) -> None:
    """Raise ValueError unless the field is one of the words of a Literal type."""
    if getattr(part, name) not in (words := get_args(known)):
        refuse(part, name, _either(repr(word) for word in words))


def _either(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}"


def interpreter(part: object, name: str) -> None:
    """Raise ValueError unless the field can be asked: a function, or an instance and not its class."""
    value = getattr(part, name)
    if inspect.isclass(value):
        kind = value.__name__
        raise ValueError(f"{type(part).__name__}: {name} is the class {kind}; it must be an instance, {kind}()")
    if not callable(value):
        refuse(part, name, "an interpreter")


def refuse(part: object, name: str, right: str) -> NoReturn:
    """Raise ValueError: this field is what it is, and what would be right."""
    raise ValueError(f"{type(part).__name__}: {name} is {getattr(part, name)!r}; it must be {right}")
