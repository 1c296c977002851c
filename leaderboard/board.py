"""Entries → a static site: a page of tables, a page for each entry, downloads. It needs no server and asks nobody."""

from __future__ import annotations

import base64
import csv
import functools
import hashlib
import http.server
import importlib.metadata
import importlib.resources
import io
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from unfooled.leaderboard import checker, drawing, parts
from unfooled.leaderboard.checker import Checked
from unfooled.leaderboard.drawing import Line
from unfooled.leaderboard.entry import INTERVALS, Entry
from unfooled.leaderboard.reference import Reference
from unfooled.leaderboard.standings import Standing, Standings, standings
from unfooled.types import UnfooledError

MARKER = ".unfooled-board"
"""lies in every folder that was built, so that nothing else is ever replaced"""


def build(entries: Path, out: Path, references: Mapping[str, Reference] | None = None) -> Checked:
    """Build the site of a folder's entries in ``out``, which is replaced whole. Entries with complaints are left out.

    Raises UnfooledError where ``out`` holds something else than an earlier board.
    """
    if not entries.is_dir():
        raise UnfooledError(f"{entries}: no such folder; name the one that holds the entries")
    if out.exists() and not (out / MARKER).exists() and any(out.iterdir()):
        raise UnfooledError(f"{out}: holds something that is no board; name an empty folder or a new one")
    found = checker.check([entries], references)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=out.parent, prefix=".board-"))
    try:
        _write(standings(found.passed), fresh)
        fresh.chmod(0o755)
        shutil.rmtree(out, ignore_errors=True)
        os.replace(fresh, out)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return found


def _write(tables: Sequence[Standings], out: Path) -> None:
    pages = _environment()
    (out / MARKER).touch()
    (out / "entry").mkdir()
    adaptive = {t.key: any(r.filed.entry.scores.adaptive.value is not None for r in t.rows) for t in tables}
    families = {t.key: sorted({r.filed.entry.method.family for r in t.rows}) for t in tables}
    index = pages.get_template("index.html").render(tables=tables, families=families, adaptive=adaptive)
    (out / "index.html").write_text(index, "utf-8")
    page = pages.get_template("entry.html")
    for table in tables:
        ranked = sum(row.rank is not None for row in table.rows)
        (out / f"{table.key}.csv").write_text(as_csv(table), "utf-8", newline="")
        (out / f"{table.key}.json").write_text(as_list(table), "utf-8")
        for row in table.rows:
            text = page.render(row=row, ranked=ranked, **_figures(row))
            (out / "entry" / f"{row.stem}.html").write_text(text, "utf-8")
            (out / "entry" / f"{row.stem}.json").write_bytes(row.filed.content)


def _environment() -> Environment:
    """Everything is escaped; the style and the script are ours, and their hashes are all that the policy lets run."""
    folder = Path(str(importlib.resources.files("unfooled.leaderboard") / "templates"))
    pages = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((folder / name).read_text("utf-8") for name in ("style.css", "board.js"))
    pages.filters |= {"number": _shown, "raw": _raw, "shortly": shortly}
    pages.globals |= {
        "style": Markup(style),
        "script": Markup(script),
        "version": importlib.metadata.version("unfooled"),
        "policy": f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'",
    }
    return pages


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _shown(value: float | None, digits: int = 3) -> str:
    """A number as people read it, a dash where undefined."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _raw(value: float | None) -> str:
    """A number as the script sorts it, empty where undefined."""
    return "" if value is None else repr(value)


def shortly(entry: Entry, cell: str) -> str:
    """A cell without its manipulation's arguments: ``active:grad_cam``; whole, where that names two of the entry's.

    An adaptive one is always against the entry's own interpreter: ``adaptive:location``.
    """
    named = {n: (c.manipulation.partition("(")[0], c) for n, c in entry.cells.items()}
    short = {
        n: f"adaptive:{kind}" if c.adaptive else n.replace(c.manipulation, kind, 1) for n, (kind, c) in named.items()
    }
    return short[cell] if list(short.values()).count(short.get(cell, "")) == 1 else cell


def _figures(row: Standing) -> dict[str, object]:
    entry = row.filed.entry
    label = entry.method.part.label
    aimed = {
        name: "attacked" if c.adaptive or c.against == label or c.family == entry.method.family else "transfer"
        for name, c in entry.cells.items()
    }
    intervals = {name: getattr(entry.scores, name) for name in ("transfer", "attacked", "adaptive")}
    shown = [
        Line(name, i.value, "transfer" if name == "transfer" else "attacked", i.low, i.high)
        for name, i in intervals.items()
        if i.value is not None
    ]
    names = {slot: name for name, slot in parts.slots(entry).items()}
    cells = [(names[slot], value) for slot, value in row.by_cell]
    return {
        "label": label,
        "scores": drawing.dots(shown),
        "cells": drawing.dots([Line(shortly(entry, name), v, aimed[name]) for name, v in cells]),
        "settings": drawing.dots([Line(name, v, "transfer") for name, v in row.by_setting]),
    }


def records(table: Standings) -> list[dict[str, object]]:
    """A table's rows as plain values, for the downloads."""
    return [_record(row) for row in table.rows]


def _record(row: Standing) -> dict[str, object]:
    entry, verified = row.filed.entry, row.filed.verified
    scores = entry.scores
    ends = {
        f"{name}{end}": getattr(getattr(scores, name), which)
        for name in INTERVALS
        for end, which in (("", "value"), ("_low", "low"), ("_high", "high"))
    }
    return {
        "name": entry.name,
        "family": entry.method.family,
        "canary": entry.canary,
        "rank": row.rank,
        "rank_low": row.rank_low,
        "rank_high": row.rank_high,
        "tie": row.tie,
        "not_ranked_because": row.reason,
        **ends,
        "worst": scores.worst,
        "worst_cell": scores.worst_cell,
        "verified": verified.outcome if verified else "",
        "verified_reported": verified.reported if verified else None,
        "verified_recomputed": verified.recomputed if verified else None,
        "unchecked": "; ".join(verified.unchecked) if verified else "",
        "gap": verified.challenge.gap if verified and verified.challenge else None,
        "metrics_counted": row.counted,
        "coverage": scores.coverage,
        **{word: getattr(entry.cost, word) for word in ("forward", "backward", "memory", "seconds")},
        "interpreter": entry.method.part.label,
        "code": entry.method.code,
        "by": entry.by,
        "created": entry.created,
        "runs_made": entry.runs_made,
        "file": row.filed.path.name,
    }


def as_csv(table: Standings) -> str:
    """One line an entry under the columns' names; an empty field is undefined."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(_record(table.rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records(table))
    return text.getvalue()


def as_list(table: Standings) -> str:
    about = {"suite": table.suite, "version": table.version, "digest": table.digest, "at": table.at}
    return json.dumps({**about, "entries": records(table)}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def server(folder: Path, port: int) -> http.server.ThreadingHTTPServer:
    """A server of a built board for this machine alone; port 0 takes a free one. Raises UnfooledError."""
    if not (folder / MARKER).exists():
        raise UnfooledError(f"{folder}: holds no board; `unfooled leaderboard build --out {folder}` makes one")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise UnfooledError(f"port {port}: cannot be used ({error.strerror}); name another one") from error
