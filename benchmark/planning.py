"""What a run would find and what it would have to make, before it begins."""

from __future__ import annotations

from collections.abc import Iterable

from unfooled import adaptive, building, gathering, runner
from unfooled.adaptive import Extent
from unfooled.store import Store
from unfooled.suite import Suite
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
    units = gathering.unit_keys(suite.settings(), suite.interpreters, store)
    lines.append(_found("answers", units.values(), store))
    if extent:
        parts = runner.attacked(suite, interpreters, extent, store)
        keys = [
            adaptive.rows_key(s, p, extent, units[s.name, p.label])
            for s in adaptive.settings(suite, extent)
            for p in parts
            if adaptive.cells(suite, p, extent)
        ]
        lines.append(_found("answers of models fooled against each interpreter itself", keys, store))
    lines.append("no network to make" if not missing else f"{missing} networks to make, which takes the most time")
    return "\n".join(lines)


def _found(words: str, keys: Iterable[str], store: Store) -> str:
    """How many of these rows lie in the store."""
    there = [store.find("rows", key) is not None for key in keys]
    return f"{words}: {sum(there)} of {len(there)} found, {there.count(False)} to ask for"
