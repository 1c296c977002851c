"""What there is: the names of each kind with the first line of what they say of themselves."""

from __future__ import annotations

import inspect

from unfooled import plugins, suite
from unfooled.types import UnfooledError


def entries(kind: str) -> list[dict[str, object]]:
    """Name, summary, arguments and traits of every part of a kind, or of the shipped suites."""
    if kind == "suites":
        return [_suite(name) for name in suite.shipped()]
    return [_entry(kind, name) for name in plugins.names(kind)]


def _suite(name: str) -> dict[str, object]:
    loaded = suite.load(name)
    asked = f"{len(loaded.settings())} settings, {len(loaded.cells)} cells, {len(loaded.interpreters)} interpreters"
    return {"name": name, "summary": f"version {loaded.version}: {asked}", "digest": loaded.digest}


def _entry(kind: str, name: str) -> dict[str, object]:
    try:
        found = plugins.find(kind, name)
    except (ImportError, UnfooledError) as error:
        return {"name": name, "summary": f"cannot be loaded: {error}"}
    text = (inspect.getdoc(found) or "").split("\n\n")[0]
    entry: dict[str, object] = {"name": name, "summary": " ".join(text.split())}
    entry["arguments"] = {
        p.name: None if p.default is p.empty else repr(p.default) for p in inspect.signature(found).parameters.values()
    }
    if kind == "interpreters":
        entry |= {t: plugins.trait(found, t, None) for t in ("family", "signed", "stochastic")}
        entry["canary"] = entry["family"] == "canary"
        entry["attackable"] = "create_graph" in entry["arguments"]
    return entry
