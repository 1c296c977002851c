"""The tables of docs/manipulations.md that the code can write: ``python -m tests.doc_tables`` writes them anew.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; tests/test_docs.py holds that each is up to date.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean

from unfooled import adaptive, building, plugins, runner, suite
from unfooled.certificates import Gates
from unfooled.manipulations.blackbox import Effort
from unfooled.store import Store
from unfooled.training import Recipe

DOC = Path(__file__).parents[1] / "docs" / "manipulations.md"
Rates = dict[str, float]
"""``corrected``, ``silent`` and the other figures of a certificate"""
PLACE = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.S)


def manipulations() -> str:
    """The catalogue: parameters with defaults, the published interval, what success is judged on."""
    rows = []
    for name in plugins.names("manipulations"):
        part = plugins.find("manipulations", name)
        low, high = part.fooled_when
        rows.append((f"`{name}`", _arguments(part), f"[{low:g}, {high:g}]", _looks(part), str(part.groups)))
    return _table(("manipulation", "arguments", "fooled when t in", "looks at", "groups"), rows)


def _arguments(part: type) -> str:
    return ", ".join(f"`{f.name}={f.default!r}`" for f in dataclasses.fields(part))


def _looks(part: type) -> str:
    return "the map and the original's" if getattr(part, "compares", True) else "the map alone"


def weights() -> str:
    """What the ranked suite declares for each of its cells."""
    cells = suite.load("standard").cells
    rows = [(f"`{c.name}`", ", ".join(f"{w:g}" for w in c.weights)) for c in cells]
    return _table(("cell of `standard`", "weights, tried in this order"), rows)


def nine() -> str:
    """Corrected rate and silent share of the nine passive cells on every network, of the certificates that ship."""
    return _counted(_passive())


def nine_by_architecture() -> str:
    """The same, each the mean over an architecture's networks."""
    return _counted({cell: _means(told) for cell, told in _passive().items()})


def _counted(reached: dict[str, dict[str, Rates]]) -> str:
    """Cells by networks, and how many of them each network was fooled in."""
    names = list(next(iter(reached.values())))
    rows = [(f"`{cell}`", *map(_rate, reached[cell].values())) for cell in sorted(reached, key=_paper)]
    counts = [sum(_fooled(told[name]) for told in reached.values()) for name in names]
    return _table(("cell", *names), [*rows, ("**of nine**", *(f"**{count}**" for count in counts))])


def _passive() -> dict[str, dict[str, Rates]]:
    return {cell: told for name in ("standard", "standard-rest") for cell, told in _reached(name).items()}


def _means(told: dict[str, Rates]) -> dict[str, Rates]:
    """Architecture → the mean of its networks' rates."""
    names = dict.fromkeys(setting.rpartition("-")[0] for setting in told)
    together = {name: [rates for setting, rates in told.items() if setting.startswith(f"{name}-")] for name in names}
    return {n: {word: fmean(one[word] for one in all_) for word in all_[0]} for n, all_ in together.items()}


def _reached(name: str) -> dict[str, dict[str, Rates]]:
    """Passive cell → setting → its rates on the test split."""
    chosen = suite.load(name)
    store = Store(runner.frozen_folder())
    return {
        c.name: {s.name: building.certificate(s, store, s.certificate_key(c))["rates"] for s in chosen.settings()}
        for c in chosen.cells
        if c.manipulation.use != "active"
    }


def _paper(cell: str) -> tuple[int, int]:
    """The paper's order of manipulations and of interpreters."""
    manipulation, _, against = cell.partition(":")
    order = ("location", "top_k", "centre_mass"), ("lrp(at=T)", "grad_cam", "simple_grad(at=T)")
    return order[0].index(manipulation), order[1].index(against)


def _fooled(rates: Rates) -> bool:
    return rates["corrected"] >= Gates().fooled and rates["silent"] <= Gates().silent


def _rate(rates: Rates) -> str:
    silent = f", {rates['silent']:.1%} silent" if rates["silent"] > Gates().silent else ""
    return f"{rates['corrected']:.2f}{silent}"


def gates() -> str:
    return _fields(Gates)


def recipe() -> str:
    return _fields(Recipe)


def effort() -> str:
    return _fields(Effort)


def limits() -> str:
    """The adaptive track's constants of numbers."""
    told = _told(inspect.getsource(adaptive))
    rows = [(f"`{name}`", f"{getattr(adaptive, name)}", told[name]) for name in _numbers()]
    return _table(("constant", "value", "what"), rows)


def _numbers() -> list[str]:
    names = [name for name in _told(inspect.getsource(adaptive)) if name.isupper() and name != "VERSION"]
    return [name for name in names if isinstance(getattr(adaptive, name), int)]


TABLES: dict[str, Callable[[], str]] = {
    "manipulations": manipulations,
    "weights": weights,
    "gates": gates,
    "nine": nine,
    "nine_by_architecture": nine_by_architecture,
    "recipe": recipe,
    "effort": effort,
    "limits": limits,
}


def written(text: str) -> str:
    """The page with every table as the code has it now."""
    return PLACE.sub(lambda found: found[1] + TABLES[found[2]]() + found[4], text)


def _fields(cls: type) -> str:
    """A dataclass's fields, their defaults, and what stands below each in the source."""
    told = _told(inspect.getsource(cls))
    rows = [(f"`{f.name}`", str(f.default), told.get(f.name, "")) for f in dataclasses.fields(cls)]
    return _table(("field", "default", "what"), rows)


def _told(source: str) -> dict[str, str]:
    """Name → the string that follows its assignment, of a module, or of the class where the source is one."""
    body = ast.parse(source).body
    if len(body) == 1 and isinstance(body[0], ast.ClassDef):
        body = body[0].body
    found = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        target = node.target if isinstance(node, ast.AnnAssign) else next(iter(getattr(node, "targets", ())), None)
        if isinstance(target, ast.Name):
            string = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            found[target.id] = " ".join(after.value.value.split()) if string else ""
    return found


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(head), *map(tuple, rows)]
    lines.insert(1, ("---",) * len(lines[0]))
    shown = ["| " + " | ".join(cell.replace("``", "`") for cell in line) + " |" for line in lines]
    return "\n".join(shown).replace("| --- ", "|---").replace("--- |", "---|") + "\n"


if __name__ == "__main__":
    DOC.write_text(written(DOC.read_text(encoding="utf-8")), encoding="utf-8")
