"""A suite file (YAML) → a frozen Suite: settings, cells, interpreters, metrics, each with a digest."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import get_args, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from unfooled import plugins, sources
from unfooled.certificates import Gates
from unfooled.plugins import Kind
from unfooled.specs import Architecture, CellSpec, PartField, SuiteError, Tuning
from unfooled.store import digest
from unfooled.training import Fit, Recipe
from unfooled.types import Part, Polarity, UnfooledError

VERSION = 1
"""of everything that decides what a fitted or fooled network is; raised when the same words would give other weights"""


@dataclass(frozen=True)
class Suite:
    """What is asked, of whom, and how it is scored."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    version: int
    dataset: PartField
    architectures: tuple[Architecture, ...]
    cells: tuple[CellSpec, ...]
    interpreters: tuple[PartField, ...]
    metrics: tuple[PartField, ...]
    images: int = 100
    """test images per setting"""
    pairs: int = 32
    """two-object images per setting, each explained for both classes"""
    chunk: int = 32
    """images an interpreter is asked about at once"""
    draws: int = 3
    """randomised twins per setting"""
    judged: int = 500
    """tuning images that the search and the gates look at"""
    aopc_images: int = 32
    """test images per cell whose parts are deleted in the order of its maps; 0: none"""
    seed: int = 0
    """of the maps' random streams"""
    gates: Gates = field(default_factory=Gates)
    polarities: tuple[str, ...] = ("absolute", "signed")
    note: str = ""
    """printed beside the table: what whoever reads it should know of the data or the weights"""
    limit: int | None = None
    """fewer test images than the suite asks for: a trial, not to be submitted"""
    data_dir: str | None = None
    """where relative ``root`` and ``weights`` arguments are looked for; a place, so no part of any digest"""

    @property
    def digest(self) -> str:
        """Stands for what is asked and how it is scored, not for whom: one more interpreter moves nobody's numbers."""
        return digest("suite", VERSION, replace(self, data_dir=None, interpreters=(), note=""))

    def settings(self) -> list[Setting]:
        return [Setting(self, a, seed) for a in self.architectures for seed in a.seeds]


@dataclass(frozen=True)
class Setting:
    """Data set × architecture × seed: what shares an original, an honest and the randomised twins."""

    suite: Suite
    architecture: Architecture
    seed: int

    @property
    def name(self) -> str:
        return f"{self.architecture.name}-{self.seed}"

    @cached_property  # its own keys are found once, too
    def other(self) -> Setting | None:
        """Whose original is this one's *independent* twin: the next seed's of its architecture, or, where there is but
        one seed, the next setting's of the suite. None where there is no other."""
        everything = self.suite.settings()
        alike = [s for s in everything if s.architecture == self.architecture]
        ring = alike if len(alike) > 1 else everything
        place = [s.name for s in ring].index(self.name)
        return ring[(place + 1) % len(ring)] if len(ring) > 1 else None

    @cached_property
    def original_key(self) -> str:
        a = self.architecture
        made_by = _foreign_code(("datasets", self.suite.dataset), ("models", a.model))
        return digest("original", VERSION, self.suite.dataset, a.model, a.fit, self.seed, *made_by)

    def weights(self, cell: CellSpec) -> tuple[float, ...]:
        """The cell's declared search on this architecture."""
        return self._tuning(cell).weights or cell.weights

    def recipe(self, cell: CellSpec) -> Recipe:
        """How the cell's twin is fine-tuned: as the honest one, but for a rate of its own where the suite names one."""
        recipe = self.architecture.recipe
        return replace(recipe, rate=self._tuning(cell).rate or recipe.rate)

    def _tuning(self, cell: CellSpec) -> Tuning:
        return (cell.tuned or {}).get(self.architecture.name, Tuning())

    @cached_property  # each of its cells' keys holds it
    def honest_key(self) -> str:
        return digest("honest", VERSION, self.original_key, self.architecture.recipe)

    def fooled_key(self, cell: CellSpec) -> str:
        """Names the outcome of a cell's whole search, so it depends on gates and weights too."""
        made_by = _foreign_code(("manipulations", cell.manipulation), ("interpreters", cell.against))
        here = replace(cell, weights=self.weights(cell), tuned=None)
        own_recipe = [r for r in [self.recipe(cell)] if r != self.architecture.recipe]
        gates, judged = self.suite.gates, self.suite.judged
        return digest("fooled", VERSION, self.honest_key, here, gates, judged, *made_by, *own_recipe)

    def certificate_key(self, cell: CellSpec) -> str:
        """Names what is said of a cell's twin: that depends on whom the suite's other cells attack as well."""
        s = self.suite
        return digest("certificate", VERSION, self.fooled_key(cell), [c.against for c in s.cells], s.aopc_images)

    @property
    def images_key(self) -> str:
        """Names the chosen images: they depend on every twin of the setting."""
        s = self.suite
        return digest("images", VERSION, [self.fooled_key(c) for c in s.cells], self.honest_key, s.images, s.pairs)


def _foreign_code(*parts: tuple[Kind, Part]) -> list[str]:
    """What the parts' code is, of those that others bring: ours changes with ``VERSION``."""
    return [sources.fingerprint(part, kind) for kind, part in parts if not plugins.ours(kind, part.use)]


def load(source: str | Path) -> Suite:
    """A suite from a file, or a shipped suite by its bare name. Raises SuiteError."""
    path = _locate(source)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path.name}: is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise SuiteError(
            f"{path.name}: holds {type(content).__name__}; a suite is a mapping with name, dataset, cells, …"
        )
    try:
        suite = TypeAdapter(Suite).validate_python(content)
    except ValidationError as error:
        raise SuiteError(f"{path.name}: {_first(error)}") from None
    _check(suite, path.name)
    return suite


def shipped() -> list[str]:
    """Names of the suites that come with the package."""
    folder = importlib.resources.files("unfooled.suites")
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))


def _locate(source: str | Path) -> Path:
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise SuiteError(f"{path}: no such file; name a suite file, or one of {', '.join(shipped())}")
        return path
    if str(source) not in shipped():
        hint = plugins.near_miss(str(source), shipped()) or f"; there are {', '.join(shipped())}, or name a .yaml file"
        raise SuiteError(f"suites: no {str(source)!r}{hint}")
    return Path(str(importlib.resources.files("unfooled.suites") / f"{source}.yaml"))


def _first(error: ValidationError) -> str:
    """The first complaint of a validation, in our form."""
    problem = error.errors()[0]
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in problem["loc"]).lstrip(".")
    if problem["type"] == "unexpected_keyword_argument":
        *parents, word = problem["loc"]
        known = list(_fields_at(parents))
        hint = plugins.near_miss(str(word), known) or f"; there are {', '.join(known)}"
        return f"{where}: unknown field {word!r}{hint}"
    if problem["type"] in ("missing", "missing_argument"):
        return f"{where}: is missing; a suite needs it"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}, not {problem['input']!r}"


def _fields_at(parents: list) -> list[str]:
    """The fields that the dataclass at this place of a suite takes."""
    places = {"architectures": Architecture, "cells": CellSpec, "tuned": Tuning}
    places |= {"fit": Fit, "recipe": Recipe, "gates": Gates}
    named = [p for p in parents if isinstance(p, str) and p in places]
    return list(get_type_hints(places[named[-1]] if named else Suite))


def _check(suite: Suite, where: str) -> None:
    """What types cannot say: every part can be built, names are no paths, counts can be counted to."""
    try:
        _check_parts(suite)
    except UnfooledError as error:
        raise SuiteError(f"{where}: {error}") from error
    for complaint in (*_names(suite), *_counts(suite)):
        raise SuiteError(f"{where}: {complaint}")
    try:
        digest(suite)
    except (TypeError, ValueError) as error:
        raise SuiteError(f"{where}: {error}; numbers must be finite, all else plain words and lists") from error


def _check_parts(suite: Suite) -> None:
    """An argument that a part does not take should end a run before it begins, not after an hour of fitting."""
    plugins.check("datasets", suite.dataset)
    for a in suite.architectures:
        plugins.check("models", Part(a.model.use, {**a.model.arguments, "num_classes": 2}))
    for c in suite.cells:
        plugins.build("manipulations", c.manipulation)
        plugins.attackable(plugins.build("interpreters", c.against), c.against.label)
    for kind, parts in (("interpreters", suite.interpreters), ("metrics", suite.metrics)):
        for p in parts:
            plugins.build(kind, p)


def _names(suite: Suite) -> Iterator[str]:
    for name in (suite.name, *(a.name for a in suite.architectures)):
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}", name):
            yield f"name: {name!r} names folders; letters, digits, _, - and . are right"
    settings, cells = [s.name for s in suite.settings()], [c.name for c in suite.cells]
    metrics = [m.label for m in suite.metrics]
    for what, found in (("cells", cells), ("settings", settings), ("metrics", metrics)):
        if not found:
            yield f"{what}: there are none; one at least is right"
        for twice in sorted({n for n in found if found.count(n) > 1}):
            yield f"{what}: {twice!r} stands there twice; once is right"
    for c in suite.cells:
        for name in sorted({*(c.tuned or ())} - {a.name for a in suite.architectures}):
            hint = plugins.near_miss(name, [a.name for a in suite.architectures])
            yield f"cells: {c.name} is tuned for {name!r}, which is none of the architectures{hint}"
    if len({c.manipulation for c in suite.cells if c.manipulation.use == "active"}) > 1:
        yield "cells: active fooling swaps one pair of classes in a suite; give all the same two"


def _counts(suite: Suite) -> Iterator[str]:
    places = [("", suite, ("images", "chunk", "draws", "pairs", "judged"))]
    for i, a in enumerate(suite.architectures):
        places += [(f"architectures[{i}].{n}.", r, ("steps", "batch", "rate")) for n, r in _recipes(a)]
    for i, c in enumerate(suite.cells):
        places += [(f"cells[{i}].tuned.{n}.", t, ("rate",)) for n, t in (c.tuned or {}).items() if t.rate is not None]
    for prefix, holder, words in places:
        for word in words:
            if getattr(holder, word) <= 0:
                yield f"{prefix}{word}: is {getattr(holder, word)}; more than 0 is right"
    if any(a.fit and a.fit.steps < 8 for a in suite.architectures):
        yield "fit.steps: a cycle of the rate has at least 8"
    if suite.limit is not None and suite.limit < 1:
        yield f"limit: is {suite.limit}; at least 1 is right"
    if unknown := set(suite.polarities) - set(get_args(Polarity)):
        yield f"polarities: no {sorted(unknown)[0]!r}; absolute and signed are right"
    if not suite.polarities:
        yield "polarities: there are none; absolute, signed or both are right"


def _recipes(architecture: Architecture) -> list[tuple[str, Fit | Recipe]]:
    fit = [("fit", architecture.fit)] if architecture.fit else []
    return [*fit, ("recipe", architecture.recipe)]


def located(suite: Suite, named: Part) -> Part:
    """A data set or model part with its ``root`` and ``weights`` looked for under ``--data DIR``, if one was given."""
    if suite.data_dir is None:
        return named
    moved = {
        k: str(Path(suite.data_dir) / str(v)) if k in ("root", "weights") else v for k, v in named.arguments.items()
    }
    return Part(named.use, moved)
