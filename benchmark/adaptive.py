"""The adaptive track: models fooled against one interpreter itself, and what that interpreter then says of them.

The other cells of a suite attack somebody else, or at best a relative. Here the interpreter that is asked is the one
that was attacked, by the suite's own recipe, gates and weights, and its worst manipulation is reported (the column
``adaptive``). Images are the suite's, its honest and randomised rows are the ends of the scale, and no other number of
the run moves.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from unfooled import asking, building, cost, plugins, records, seeding, sources, training
from unfooled.building import Builder
from unfooled.manipulations import blackbox
from unfooled.manipulations.blackbox import Effort, Target
from unfooled.manipulations.fooling import maps_with_logits
from unfooled.manipulations.passive import Passive
from unfooled.searching import Judge
from unfooled.store import Store, digest
from unfooled.suite import CellSpec, Setting, Suite
from unfooled.types import Interpreter, NotAttackable, Part, Twin

VERSION = 1
"""of what makes an adaptive twin beside its cell; raised when the same words would give other weights"""

Extent = Literal["quick", "full"]
"""quick: location and top-k on the VGG settings, or on all where a suite has none; full: all passive ones everywhere"""

MANIPULATIONS: dict[str, tuple[str, ...]] = {
    "quick": ("location", "top_k"),
    "full": ("location", "top_k", "centre_mass"),
}

FEW = 4
"""what is left of ``samples``, ``steps`` and ``masks`` in one step of an attack: it averages over its steps instead"""
FEW_HIDDEN = 24
"""the same for methods that hide parts: one pass tells nothing of a single pixel, only many together do"""
PASSES = 256
"""images, about, that an attack of a many-pass method sends through the network in one step"""
POOL = 1024
"""training images that many-pass methods are attacked on"""
JUDGED = 128
"""most images that success is judged on: the whole method answers for each, for several networks"""


def cells(suite: Suite, part: Part, extent: Extent) -> list[CellSpec]:
    """The cells that attack this interpreter; none for a canary, which has nothing to attack.

    Manipulation and weights are the suite's own where it has that manipulation (those of its cell against this very
    interpreter, if there is one), else twice and six times its weight.
    """
    if plugins.trait(plugins.build("interpreters", part), "family", "other") == "canary":
        return []
    own = {c.manipulation.use: c for c in reversed(suite.cells)}
    own |= {c.manipulation.use: c for c in suite.cells if c.against == part}
    return [_cell(own.get(name), name, part) for name in MANIPULATIONS[extent]]


def _cell(like: CellSpec | None, name: str, part: Part) -> CellSpec:
    if like is not None:
        return replace(like, against=part)
    weight = plugins.build("manipulations", Part(name)).weight
    return CellSpec(Part(name), part, (2 * weight, 6 * weight))


def settings(suite: Suite, extent: Extent) -> list[Setting]:
    """The settings whose models are fooled."""
    everything = suite.settings()
    vgg = [s for s in everything if "vgg" in f"{s.architecture.name} {s.architecture.model.label}"]
    return vgg if vgg and extent == "quick" else everything


def name_of(cell: CellSpec) -> str:
    """What rows and header call it: the suite may have a cell of the same manipulation against the same interpreter."""
    return f"adaptive:{cell.name}"


def key(setting: Setting, cell: CellSpec) -> str:
    """Names an adaptive twin. The suite's own is taken where it attacks this interpreter in the very same way."""
    if cell in setting.suite.cells:
        return setting.fooled_key(cell)
    made_by = (sources.fingerprint(cell.against), FEW, FEW_HIDDEN, PASSES, POOL, JUDGED, Effort())
    return digest("adaptive", VERSION, setting.fooled_key(cell), *made_by)


def certificate_key(setting: Setting, cell: CellSpec) -> str:
    """Names what is said of it."""
    return digest("adaptive certificate", key(setting, cell), sources.fingerprint(cell.against))


def rows_key(setting: Setting, part: Part, extent: Extent, unit: str) -> str:
    """Names the rows of an interpreter about its adaptive twins; ``unit`` names its rows about the suite's."""
    return digest("adaptive rows", unit, [key(setting, c) for c in cells(setting.suite, part, extent)])


def answered(
    settings: Iterable[Setting], part: Part, extent: Extent, store: Store, units: Mapping[tuple[str, str], str]
) -> bool:
    """Do the rows of an interpreter lie in the store, in all settings? ``units``: (setting, interpreter) → its unit."""
    names = (rows_key(s, part, extent, units[s.name, part.label]) for s in settings)
    return all(store.find("rows", name) for name in names)


def answers(
    setting: Setting,
    part: Part,
    extent: Extent,
    store: Store,
    unit: str,
    device: str = "cpu",
    say: building.Say = print,
) -> Path:
    """The rows of an interpreter about the models fooled against it, on disk; twins are made where they are missing.

    The suite's own twins and images must lie in the store. Only ``fooled`` rows come out, of the suite's images.
    """
    found = store.find("rows", name := rows_key(setting, part, extent, unit))
    if found is not None:
        return found
    specs = cells(setting.suite, part, extent)
    builder = Builder(setting, store, device, say)
    _make(builder, [c for c in specs if not _finished(setting, c, store)])
    classes = building.class_count(setting, store)
    asked = [Twin("original", builder.load(store.find("weights", setting.original_key), classes))]
    for cell in specs:
        asked.append(Twin("fooled", builder.load(store.find("weights", key(setting, cell)), classes), name_of(cell)))
    answer = asking.interview(part, setting, asked, building.images(setting, store)[:1], classes, device)
    rows = answer.rows[(answer.rows["twin"] == "fooled").to_numpy()].reset_index(drop=True)
    return store.put("rows", name, ".parquet", lambda p: records.write_rows(p, rows, {"root": answer.root}))


def _finished(setting: Setting, cell: CellSpec, store: Store) -> bool:
    return bool(store.find("weights", key(setting, cell))) and _told(setting, cell, store)


def _told(setting: Setting, cell: CellSpec, store: Store) -> bool:
    """Is the certificate there? Of the baselines it ships with the rows, while the weights can be made again."""
    return all(store.find("certificates", k) for k in (key(setting, cell), certificate_key(setting, cell)))


def _make(builder: Builder, missing: list[CellSpec]) -> None:
    """Fool, judge and keep each twin; the data set is drawn only when one is missing."""
    if not missing:
        return
    setting = builder.setting
    data = building.splits(setting, builder.device)
    original = builder.original(data)
    honest = builder.honest(data, original)
    fewer = replace(setting, suite=replace(setting.suite, judged=min(setting.suite.judged, JUDGED)))
    for cell in missing:
        name, attack = key(setting, cell), Attack(fewer, cell, data, original, honest)
        with seeding.forked("adaptive", name):
            builder.certify(certificate_key(setting, cell), attack.said(builder.searched(attack, name)))


def described(suite: Suite, parts: Iterable[Part], extent: Extent, store: Store) -> dict[str, dict]:
    """The header's ``cells`` that these interpreters' adaptive rows belong to, as far as they were finished."""
    found = {}
    for part in parts:
        family = plugins.trait(plugins.build("interpreters", part), "family", "other")
        for cell in cells(suite, part, extent):
            told = {s.name: _certificate(s, cell, store) for s in settings(suite, extent) if _told(s, cell, store)}
            if told:
                about = {"manipulation": cell.manipulation.label, "against": part.label, "family": family}
                found[name_of(cell)] = {**about, "adaptive_for": part.label, "certificates": told}
    return found


def _certificate(setting: Setting, cell: CellSpec, store: Store) -> dict[str, object]:
    return building.certificate(setting, store, key(setting, cell), certificate_key(setting, cell))


@dataclass(frozen=True)
class Attack(Judge):
    """A judge whose twins are fooled against the interpreter with whatever it offers: gradients, else queries alone."""

    @functools.cached_property
    def whole(self) -> Interpreter:
        return plugins.build("interpreters", self.cell.against)

    @functools.cached_property
    def light(self) -> Interpreter:
        """The interpreter with few passes a map, as an attack asks it."""
        few = FEW_HIDDEN if plugins.trait(self.whole, "family", "other") == "perturbation" else FEW
        return lightened(self.whole, few)

    @functools.cached_property
    def passes(self) -> int:
        """Images that one light map sends through the network; 1 where a method works on a copy and hides it."""
        batch = self.data.train[:2]
        with cost.counting(self.original) as count:
            self.light(self.original, batch.images, batch.labels)
        return max(1, count.forward // len(batch))

    @functools.cached_property
    def by_gradient(self) -> bool:
        batch = self.data.train[:2]
        return differentiable(self.light, self.original, batch.images, batch.labels)

    @property
    def means(self) -> str:
        """How it is attacked, for the certificate."""
        steps = self.recipe.steps
        return "gradient" if self.by_gradient else f"gradient-free, {Effort().queries(steps)} queries"

    def twin(self, weight: float) -> nn.Module:
        manipulation, recipe = replace(self.manipulation, weight=weight), self.recipe
        if self.by_gradient and self.passes == 1 and self.light == self.whole:
            attacked = plugins.attackable(self.whole, self.cell.against.label)
            return manipulation(self.original, self.data, attacked, recipe, self.setting.seed)
        make = self._by_gradient if self.by_gradient else self._by_queries
        return make(manipulation)

    def said(self, twin: nn.Module) -> dict[str, object]:
        """The certificate's figures, on the test split; of transfer the suite's own cells tell."""
        return {
            "attack": self.means,
            **self.figures(twin),
            "honest": asdict(self._rates(self.honest, self.cell, "test")),
        }

    def _by_gradient(self, manipulation: Passive) -> nn.Module:
        """The recipe with a fooling loss on some images a step, so that a step costs about ``PASSES`` passes."""
        attacked = plugins.attackable(self.light, self.cell.against.label)
        target, recipe = self._target(manipulation, attacked), self.recipe
        count = self._images(recipe.batch)
        stream = seeding.generator("adaptive", self.setting.seed)

        def penalty(twin: nn.Module, index: Tensor) -> tuple[Tensor, None]:
            some = torch.randint(len(target.pool), (count,), generator=stream)
            return manipulation.weight * target.loss(twin, some), None

        return training.fine_tune(self.original, self.data.train, recipe, penalty, self.setting.seed)

    def _by_queries(self, manipulation: Passive) -> nn.Module:
        """The recipe with the fooling loss known by calls of the interpreter alone."""
        effort, recipe = replace(Effort(), images=self._images(Effort().images)), self.recipe
        target = self._target(manipulation, self.light)
        return blackbox.fool(target, self.original, self.data.train, recipe, self.setting.seed, effort)

    def _images(self, most: int) -> int:
        """How many images a step asks about."""
        return max(2, min(most, PASSES // self.passes, len(self.data.train)))

    def _target(self, manipulation: Passive, attacked: Interpreter) -> Target:
        """What is attacked, compared with the whole method's maps of the original where the loss compares."""
        target = Target.of(manipulation, self.whole, self.data.train[:POOL], self.original)
        return replace(target, interpreter=attacked)


def lightened(interpreter: Interpreter, few: int) -> Interpreter:
    """The same method with at most ``few`` ``samples``, ``steps`` or ``masks``, those that it wraps included."""
    if not dataclasses.is_dataclass(interpreter) or isinstance(interpreter, type):
        return interpreter
    changes = {}
    for field in dataclasses.fields(interpreter):
        value = getattr(interpreter, field.name)
        if field.name in ("samples", "steps", "masks") and isinstance(value, int) and value > few:
            changes[field.name] = few
        elif field.name == "of":
            changes[field.name] = lightened(value, few)
    try:
        return replace(interpreter, **changes)
    except (TypeError, ValueError):  # a method may refuse so few; it is attacked as it is
        return interpreter


def differentiable(interpreter: Interpreter, model: nn.Module, images: Tensor, labels: Tensor) -> bool:
    """Does the map carry a graph to the weights? A wrapper may take ``create_graph`` and find none in what it wraps."""
    twin = copy.deepcopy(model).requires_grad_(True)
    try:
        attacked = plugins.attackable(interpreter, type(interpreter).__name__)
        with seeding.forked("probe"):
            maps, _ = maps_with_logits(attacked, twin, images, labels)
        slopes = torch.autograd.grad(maps.sum(), list(twin.parameters()), allow_unused=True)
    except (NotAttackable, RuntimeError):
        return False
    return any(s is not None and bool(s.abs().sum() > 0) for s in slopes)
