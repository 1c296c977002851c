"""What a suite prescribes: everything that an entry of it must agree with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unfooled import building, plugins, runner
from unfooled import suite as suites
from unfooled.leaderboard.stability import headline_metrics
from unfooled.store import Store
from unfooled.suite import CellSpec, Suite


@dataclass(frozen=True)
class Reference:
    """A suite as the checker knows it."""

    name: str
    version: int
    digest: str
    metrics: tuple[str, ...]
    """of the headline"""
    settings: Mapping[str, str]
    """name → label of the model"""
    twins: Mapping[str, str]
    """name of a setting → digest of its frozen networks and images; only those that ship"""
    cells: Mapping[str, tuple[str, str, str]]
    """name → manipulation, against, family of against"""
    splits: Mapping[str, str]
    """name of a cell → the split it is judged on"""
    independent: bool
    """does every setting have another network, fitted from another seed?"""
    images: int
    """largest number of images of any split"""
    chunk: int
    """images an interpreter is asked about at once"""


def of_suite(suite: Suite, store: Store | None = None) -> Reference:
    """The reference of a suite; ``store`` is where its frozen twins lie, by default the package's."""
    store = store or Store(runner.frozen_folder())
    return Reference(
        name=suite.name,
        version=suite.version,
        digest=suite.digest,
        metrics=tuple(headline_metrics(sorted(m.label for m in suite.metrics))),
        settings={s.name: s.architecture.model.label for s in suite.settings()},
        twins={s.name: building.twins_digest(s, store) for s in suite.settings() if store.find("images", s.images_key)},
        cells={c.name: (c.manipulation.label, c.against.label, _family(c)) for c in suite.cells},
        splits={c.name: "pairs" if c.manipulation.use == "active" else "test" for c in suite.cells},
        independent=all(s.other for s in suite.settings()),
        images=max(suite.images, 2 * suite.pairs),
        chunk=suite.chunk,
    )


def _family(cell: CellSpec) -> str:
    return str(plugins.trait(plugins.build("interpreters", cell.against), "family", "other"))


def shipped(names: set[str]) -> dict[str, Reference]:
    """The references of those names that are shipped suites."""
    return {name: of_suite(suites.load(name)) for name in sorted(names & set(suites.shipped()))}
