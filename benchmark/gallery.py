"""The maps a person should see: for a few images, each interpreter's map of every twin and how much it moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from unfooled.records import Run, gallery_name

MOST_TILES = 1500
"""what a page can carry: fewer images are shown where interpreters and cells are many"""
LEAST_RANGE = 0.1
AIMS = {
    "location": "maps light up a frame around the image, wherever the object is",
    "top_k": "the tenth of the map that was largest goes dark",
    "centre_mass": "the map's centre of mass moves as far as it can",
    "active": "on images of two objects the maps of the two classes swap",
}
"""what each manipulation wants of a map"""


@dataclass(frozen=True)
class Column:
    """One twin of a shelf."""

    title: str
    twin: str
    cell: str = ""
    split: str = "test"
    status: str = ""
    """fooled or resisted, for a fooled twin"""
    pattern: np.ndarray | None = None
    """(s, s): the map that the manipulation wants to see, where it wants one and the same"""

    @property
    def key(self) -> str:
        return gallery_name(self.split, f"{self.twin}/{self.cell}")


@dataclass(frozen=True)
class Tile:
    """One map and what the rows say of it."""

    map: np.ndarray | None
    """(h, w); None where there is none"""
    similarity: float = float("nan")
    """to the original's map"""
    verdict: str = ""
    """of a fooled twin's map: ``kept`` where it is nearer to the honest twin's similarity than to the randomised one's,
    else ``moved``; ``blind`` where these two lie less than 0.1 apart, so that no map could tell"""
    aimed: str = ""
    """``at it`` or ``at its family``, where the cell was made against this interpreter or one of its family"""


@dataclass(frozen=True)
class Shelf:
    """Everyone's maps of one image of one setting."""

    setting: str
    split: str
    """``test``, or ``pairs``: images of two objects, which active fooling is judged on"""
    number: int
    image: np.ndarray
    """(h, w, 3) in [0, 1]"""
    shows: str
    """the class that is explained"""
    measure: str
    """the metric behind ``similarity``"""
    columns: tuple[Column, ...]
    rows: Mapping[str, tuple[Tile, ...]] = field(default_factory=dict)
    """interpreter → a tile a column"""

    @property
    def picture(self) -> str:
        """Which image it is, in words."""
        return f"image {self.number + 1}" + (" of two objects" if self.split == "pairs" else "")


def shelves(run: Run, order: list[str]) -> list[Shelf]:
    """What the run's ``gallery.npz`` holds, interpreters in the given order; empty where there is no such file."""
    path = run.folder / "gallery.npz"
    if not path.is_file():
        return []
    with np.load(path) as stored:
        content = dict(stored)
    settings = [key.removesuffix("//image") for key in content if key.endswith("//image")]
    columns = {(s, split): _columns(run.header, s, split, content) for s in settings for split in ("test", "pairs")}
    tiles = sum(len(columns[s, "test"]) * len(order) for s in settings)
    counts = {"test": max(1, min(3, MOST_TILES // max(tiles, 1))), "pairs": 1}
    known = _similarities(run, settings, counts)
    return [
        _shelf(run, content, s, split, n, twins, order, known)
        for (s, split), twins in columns.items()
        if split == "test" or any(c.twin == "fooled" for c in twins)
        for n in range(min(counts[split], len(content[f"{s}//{gallery_name(split, 'image')}"])))
    ]


def _columns(header: Mapping, setting: str, split: str, content: Mapping[str, np.ndarray]) -> tuple[Column, ...]:
    found = [Column("original", "original", split=split), Column("honest", "honest", split=split)]
    for name, cell in header.get("cells", {}).items():
        manipulation = str(cell.get("manipulation", ""))
        status = str(cell.get("certificates", {}).get(setting, {}).get("status", ""))
        title = f"{manipulation} against {cell.get('against', '')}"
        found.append(Column(title, "fooled", name, split, status, _pattern(manipulation)))
    found.append(Column("random network", "randomised", split=split))
    there = {key.removeprefix(f"{setting}/") for key in content if key.startswith(f"{setting}/")}
    return tuple(c for c in found if any(key.endswith(f"/{c.key}") for key in there))


def _pattern(manipulation: str) -> np.ndarray | None:
    if manipulation.split("(")[0] != "location":
        return None
    from unfooled.manipulations.passive import frame

    return frame(8).numpy()


def _shelf(
    run: Run, content: Mapping[str, np.ndarray], setting: str, split: str, number: int, columns: tuple[Column, ...],
    order: list[str], known: Mapping[tuple, float],
) -> Shelf:  # fmt: skip
    about = run.header.get("settings", {}).get(setting, {})
    target = int(content[f"{setting}//{gallery_name(split, 'target')}"][number])
    classes = (about.get("honest") or {}).get("classes") or []
    rows = {}
    for label in order:
        maps = [content.get(f"{setting}/{label}/{c.key}") for c in columns]
        if any(m is not None for m in maps):
            place = (setting, label, number)
            rows[label] = tuple(_tile(run.header, place, c, m, known) for c, m in zip(columns, maps, strict=True))
    return Shelf(
        setting=setting,
        split=split,
        number=number,
        image=_colour(content[f"{setting}//{gallery_name(split, 'image')}"][number]),
        shows=str(classes[target]) if target < len(classes) else f"class {target}",
        measure=_measure(run),
        columns=columns,
        rows=rows,
    )


def _tile(
    header: Mapping, place: tuple[str, str, int], column: Column, maps: np.ndarray | None, known: Mapping[tuple, float]
) -> Tile:
    _, label, number = place
    if maps is None or number >= len(maps):
        return Tile(None)
    ends = (gallery_name(column.split, twin) for twin in ("honest/", "randomised/"))
    value, honest, floor = (known.get((*place, key), np.nan) for key in (column.key, *ends))
    fooled = column.twin == "fooled"
    return Tile(
        map=maps[number].astype(np.float32),
        similarity=1.0 if column.twin == "original" else value,
        verdict=_verdict(value, honest, floor) if fooled else "",
        aimed=_aimed(header, label, column.cell) if fooled else "",
    )


def _verdict(value: float, honest: float, floor: float) -> str:
    if not np.isfinite([value, honest, floor]).all():
        return "silent" if np.isfinite([honest, floor]).all() else ""
    if honest - floor < LEAST_RANGE:
        return "blind"
    return "kept" if value >= (honest + floor) / 2 else "moved"


def _aimed(header: Mapping, label: str, cell: str) -> str:
    about, own = header.get("cells", {}).get(cell, {}), header.get("interpreters", {}).get(label, {})
    if about.get("against") == label:
        return "at it"
    family = own.get("family", "other")
    return "at its family" if family == about.get("family") and family not in ("other", "canary") else ""


def _colour(image: np.ndarray) -> np.ndarray:
    """(c, h, w) → (h, w, 3) in [0, 1]; a grey image has three equal channels."""
    whole = np.broadcast_to(image, (3, *image.shape[1:])) if len(image) == 1 else image[:3]
    return np.clip(whole.transpose(1, 2, 0), 0, 1)


def _measure(run: Run) -> str:
    metrics = list(run.header.get("metrics", []))
    return "spearman" if "spearman" in metrics or not metrics else metrics[0]


def _similarities(run: Run, settings: list[str], counts: Mapping[str, int]) -> dict[tuple, float]:
    """(setting, interpreter, image, column's key) → similarity to the original's map, draws averaged."""
    rows = run.rows
    polarity = "absolute" if (rows["polarity"] == "absolute").any() else rows["polarity"].iloc[0]
    chosen = (rows["metric"] == _measure(run)) & (rows["polarity"] == polarity) & rows["setting"].isin(settings)
    chosen &= np.logical_or.reduce([(rows["split"] == s) & (rows["image"] < n) for s, n in counts.items()])
    some = rows[chosen.to_numpy()]
    which = ["setting", "interpreter", "split", "twin", "cell"]
    words = {c: some[c].astype(object).where(some[c].notna(), "") for c in which}
    frame = pd.DataFrame({**words, "image": some["image"], "value": some["value"]})
    means = frame.groupby([*which, "image"], observed=True)["value"].mean()
    return {(s, i, n, gallery_name(split, f"{t}/{c}")): float(v) for (s, i, split, t, c, n), v in means.items()}
