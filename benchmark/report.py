"""A run as one HTML file that needs nothing beside it, and its figures as files."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from unfooled import figures, gallery, located
from unfooled.figures import Drawing
from unfooled.findings import CERTIFICATE, Findings
from unfooled.gallery import AIMS, Shelf
from unfooled.leaderboard import multiverse, tables
from unfooled.records import Run
from unfooled.store import publish

DETAILS = (
    *("interpreter", "family", "worst", "worst_cell", "metrics_counted", "coverage", "silent", "missing"),
    *("raw_fooled", "raw_honest", "raw_randomised", "randomised_top", "self_noise", "wrong_class"),
    *("forward", "backward", "memory"),
)


@dataclass(frozen=True)
class Report:
    """What was written."""

    path: Path
    """the HTML file"""
    figures: tuple[Path, ...]
    """each figure as PNG and as SVG; galleries as PNG only"""


@dataclass(frozen=True)
class Table:
    """A table as a page shows it: words, and which columns hold numbers."""

    headings: list[str]
    numeric: list[bool]
    rows: list[list[str]]
    meanings: dict[str, str]
    """heading → what it means"""
    caption: str = ""


@dataclass(frozen=True)
class Shown:
    """A drawing as a page shows it."""

    name: str
    caption: str
    svg: str
    absent: str


def write(run: Run, found: Findings | None = None) -> Report:
    """Write ``report.html`` and ``figures/`` into the run's folder, each file in one step.

    ``found`` are the run's findings, if somebody has them already.
    """
    found = found or Findings(run)
    shelves = gallery.shelves(run, list(found.table["interpreter"]))
    shown, files = {}, []
    for drawing in figures.drawings(found):
        svg, written = _write_figure(drawing, run.folder / "figures")
        shown[drawing.name] = Shown(drawing.name, drawing.caption, svg, drawing.absent)
        files += written
    files += [_write_gallery(shelf, run.folder / "figures") for shelf in shelves if shelf.number == 0]
    path = run.folder / "report.html"
    text = render(found, shelves, shown)
    publish(path, lambda part: part.write_text(text, encoding="utf-8"))
    return Report(path, tuple(files))


def _write_figure(drawing: Drawing, folder: Path) -> tuple[str, list[Path]]:
    """The drawing as an element of the page, and the files it became."""
    if drawing.figure is None:
        return "", []
    from unfooled.plots import style

    path = folder / f"{drawing.name}.png"
    publish(path, lambda part: part.write_bytes(style.png(drawing.figure)))
    text, vector = style.svg(drawing.figure), path.with_suffix(".svg")
    publish(vector, lambda part: part.write_text(text, encoding="utf-8"))
    return style.inline(text, drawing.name, drawing.caption), [path, vector]


def _write_gallery(shelf: Shelf, folder: Path) -> Path:
    """A setting's maps as a picture; its name comes from a suite file, and may hold anything."""
    from unfooled.plots.gallery import png, shelf_picture

    name = re.sub(r"[^A-Za-z0-9_-]", "_", shelf.setting)[:80] + ("-pairs" if shelf.split == "pairs" else "")
    path = folder / f"gallery-{name}.png"
    publish(path, lambda part: part.write_bytes(png(shelf_picture(shelf))))
    return path


def render(found: Findings, shelves: list[Shelf], shown: Mapping[str, Shown]) -> str:
    """The page. Whatever comes from a run is escaped; only our own drawings are markup."""
    import jinja2
    from markupsafe import Markup

    from unfooled.plots.gallery import image_uri, map_uri

    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("unfooled"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    pages.filters |= {"map_uri": map_uri, "image_uri": image_uri, "drawn": lambda drawing: Markup(drawing.svg)}
    header = found.run.header
    return pages.get_template("report.html").render(
        header=header,
        found=found,
        ranked=ranked(found.table),
        csv=_data_uri("text/csv", tables.as_csv(found.table)),
        details=table_of(found.table[[c for c in DETAILS if found.table[c].notna().any()]]),
        choices=ranked(multiverse.rank_ranges(found.ranks)),
        others={_kind(frame): ranked(frame) for frame in found.others},
        certificates=certificates(found),
        localisation=localisation(found),
        interpreters=interpreters(header),
        settings=settings(header),
        shown=shown,
        shelves=shelves,
        aims=aims(header),
    )


def ranked(frame: pd.DataFrame) -> Table:
    """A ``ranking.scores`` table, or another that has a caption."""
    return table_of(frame, tables.caption(frame))


def _kind(frame: pd.DataFrame) -> str:
    return f"{frame.attrs['polarity'].capitalize()} maps at {frame.attrs['at']}"


def table_of(frame: pd.DataFrame, caption: str = "") -> Table:
    """Any table of the leaderboard, with the meaning of its columns."""
    words = tables.shown(frame)
    known = {c.heading: c for c in tables.COLUMNS}
    return Table(
        headings=list(words.columns),
        numeric=[h in known and known[h].digits is not None for h in words.columns],
        rows=words.to_numpy().tolist(),
        meanings={h: known[h].explained for h in words.columns if h in known},
        caption=caption,
    )


def certificates(found: Findings) -> Table:
    """What each fooled model kept and what it changed."""
    return _titled(found.certificates, CERTIFICATE)


def localisation(found: Findings) -> Table:
    """Whether maps lie on the object."""
    chance = located.chance(found.run.header, found.localisation)
    said = ", ".join(f"{what} {value:.3f}" for what, value in chance.items())
    caption = f"Chance, which is what random_map's noise reaches: {said}." if said else ""
    return _titled(found.localisation, located.COLUMNS, caption)


def _titled(frame: pd.DataFrame, columns: Mapping[str, tuple[str, str]], caption: str = "") -> Table:
    """A table of a run's header; ``columns``: name → title and meaning."""
    words = tables.shown(frame.rename(columns={name: title for name, (title, _) in columns.items()}))
    return Table(
        headings=list(words.columns),
        numeric=[h not in ("setting", "cell", "status", "interpreter") for h in words.columns],
        rows=words.to_numpy().tolist(),
        meanings=dict(columns.values()),
        caption=caption,
    )


def aims(header: Mapping) -> dict[str, str]:
    """What each of the run's manipulations wants of a map, as far as we know it."""
    used = {str(cell["manipulation"]).split("(")[0] for cell in header["cells"].values()}
    return {name: aim for name, aim in AIMS.items() if name in used}


def interpreters(header: Mapping) -> Table:
    """Who was asked, and with which source."""
    rows = [
        [label, about.get("family", ""), about.get("at", ""), _yes(about.get("signed")), _yes(about.get("stochastic")),
         str(about.get("source", ""))[:12]]
        for label, about in header["interpreters"].items()
    ]  # fmt: skip
    headings = ["interpreter", "family", "maps at", "signed", "stochastic", "digest of its source"]
    return Table(headings, [False] * 6, rows, {})


def settings(header: Mapping) -> Table:
    """Data set, model, seed and twins of every setting."""
    rows = [
        [name, s.get("dataset", ""), s.get("model", ""), str(s.get("seed", "")),
         ", ".join(f"{n} {split}" for split, n in s.get("images", {}).items()), str(s.get("twins", ""))]
        for name, s in header["settings"].items()
    ]  # fmt: skip
    headings = ["setting", "data set", "model", "seed", "images", "digest of its twins"]
    return Table(headings, [False] * 6, rows, {})


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _data_uri(kind: str, text: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"
