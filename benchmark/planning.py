"""What a run would find and what it would have to make, before it begins."""

from __future__ import annotations

from collections.abc import Iterable

from unfooled import adaptive, building, gathering, runner
from unfooled.adaptive import Extent
from unfooled.store import Store
from unfooled.suite import Setting, Suite
from unfooled.types import Part


def plan(suite: Suite, interpreters: Iterable[Part], options: runner.Options, extent: Extent | None = None) -> str:
    """What a run would find and what it would have to make, in words. What a run would refuse is refused."""
    interpreters = tuple(interpreters)
    suite = runner.asking_too(suite, interpreters, options.device)
    store = runner.open_store(options, suite)
    lines = [f"{suite.name} version {suite.version}, digest {suite.digest}"]
    missing = 0
    for s in suite.settings():
        keys = [key for kind, key in building.needed(s) if kind == "weights"]
        found = sum(store.find("weights", key) is not None for key in keys)
        missing += len(keys) - found
        lines.append(f"{s.name}: {found} of {len(keys)} networks found, {len(keys) - found} to make")
    lines.append(
        f"then {len(suite.interpreters)} interpreters × {len(suite.settings())} settings, {options.jobs} processes"
    )
    lines.append(_answers_found(suite, suite.settings(), suite.interpreters, store, None))
    if extent:
        settings = adaptive.settings(suite, extent)
        lines.append(
            _answers_found(suite, settings, runner.attacked(suite, interpreters, extent, store), store, extent)
        )
    lines.append("no network to make" if not missing else f"{missing} networks to make, which takes the most time")
    return "\n".join(lines)


def _answers_found(
    suite: Suite, settings: list[Setting], parts: Iterable[Part], store: Store, extent: Extent | None
) -> str:
    """How many answers lie in the store, of the suite's networks, or of those that are fooled against each itself."""
    parts = [p for p in parts if extent is None or adaptive.cells(suite, p, extent)]
    units = gathering.unit_keys(settings, parts, store)
    keys = [units[s.name, p.label] for s in settings for p in parts]
    if extent:
        keys = [adaptive.rows_key(s, p, extent, units[s.name, p.label]) for s in settings for p in parts]
    found = sum(store.find("rows", key) is not None for key in keys)
    words = "answers of models fooled against each interpreter itself" if extent else "answers"
    return f"{words}: {found} of {len(keys)} found, {len(keys) - found} to ask for"
