"""How a suite file writes its pieces: parts, networks, cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import yaml
from pydantic import BeforeValidator

from unfooled.training import Fit, Recipe
from unfooled.types import Part, UnfooledError


class SuiteError(UnfooledError):
    """A suite file is missing or says something that no suite says."""


def part(value: object) -> Part:
    """``name`` or ``{use: name, argument: value, …}`` → Part, nested ones included."""
    if isinstance(value, Part):
        return value
    if isinstance(value, str):
        return Part(value)
    if isinstance(value, dict) and isinstance(value.get("use"), str):
        rest = {str(k): v for k, v in value.items() if k != "use"}
        return Part(value["use"], {k: part(v) if _names_a_part(k, v) else v for k, v in rest.items()})
    raise ValueError("is no part; a part is a name, or {use: name, argument: value, …}")


def as_part(text: str) -> Part:
    """``name``, ``module:Name`` or ``name?samples=32&sigma=0.2`` → Part; values are read as YAML. Raises SuiteError."""
    if not isinstance(text, str):
        raise SuiteError(f"{text!r} is no name of a part; 'name' or 'module:Name' is right")
    use, _, query = text.partition("?")
    pairs = (item.partition("=") for item in query.split("&") if item)
    try:
        return part({"use": use, **{key: yaml.safe_load(value) for key, _, value in pairs}})
    except yaml.YAMLError as error:
        raise SuiteError(f"{text}: an argument is not YAML; name?samples=32&sigma=0.2 is right") from error
    except ValueError as error:  # an argument called ``use``, or one that is no part where one belongs
        raise SuiteError(f"{text}: {error}") from error


def _names_a_part(argument: str, value: object) -> bool:
    """A mapping with ``use``, or a bare name given for ``of``, which is what a wrapper wraps."""
    return (isinstance(value, dict) and "use" in value) or (argument == "of" and isinstance(value, str))


PartField = Annotated[Part, BeforeValidator(part)]


@dataclass(frozen=True)
class Architecture:
    """One network of a suite; with each of its seeds it is a setting."""

    name: str
    model: PartField
    seeds: tuple[int, ...] = (0,)
    fit: Fit | None = field(default_factory=Fit)
    """how the original is fitted; null where the model brings its own weights"""
    recipe: Recipe = field(default_factory=Recipe)
    """how every twin is fine-tuned"""


@dataclass(frozen=True)
class Tuning:
    """What a cell is fooled with on one architecture."""

    weights: tuple[float, ...] = ()
    """none: those of the cell"""
    rate: float | None = None
    """of the fine-tuning; none: that of the architecture's recipe, which is the honest twin's"""


@dataclass(frozen=True)
class CellSpec:
    """A manipulation against an interpreter, and the declared search over the weight of its loss."""

    manipulation: PartField
    against: PartField
    weights: tuple[float, ...] = ()
    """tried in this order until a twin passes the gates and is fooled; none: the manipulation's own weight"""
    tuned: Mapping[str, Tuning] | None = None
    """architecture's name → what differs there"""

    @property
    def name(self) -> str:
        return f"{self.manipulation.label}:{self.against.label}"
