"""A run in tables and plain words: what its report says before anything is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from unfooled import located
from unfooled.intervals import Friedman
from unfooled.leaderboard import multiverse, pairing, ranking
from unfooled.records import Run

LEAST_SETTINGS = 3
"""for Friedman's test"""

RATES = ("published", "not_silent", "null", "corrected", "on_kept", "silent")
CERTIFICATE = {
    "setting": ("setting", "data set × architecture × seed"),
    "cell": ("cell", "manipulation, and the interpreter that the model was fooled against"),
    "status": ("status", "resisted: the declared search of weights found no model that is fooled within the gates"),
    "weight": ("weight", "λ of the fooling loss; – where the honest twin stands in, as all others failed the gates"),
    "published": ("published ↑", "share of images fooled, by the criterion of Heo et al. (2019)"),
    "null": ("null", "the same if the original's maps are dealt out to other images: what chance reaches"),
    "not_silent": ("not silent ↑", "share of images fooled with a map that says something"),
    "corrected": ("corrected ↑", "(not silent − null) / (1 − null): 0 is chance; no lower end, as the null may near 1"),
    "on_kept": (
        "on kept ↑",
        "of the images that kept their prediction, the share fooled with a map that says something",
    ),
    "silent": ("silent ↓", "share of the fooled model's maps that say nothing"),
    "accuracy_before": ("accuracy before", "of the original"),
    "accuracy_honest": ("accuracy honest", "of the honest twin"),
    "accuracy": ("accuracy fooled", "of the fooled model"),
    "agreement": ("agreement", "share of images with the original's prediction"),
    "divergence": ("KL", "mean divergence of the original's predictions from the fooled model's, nats"),
    "divergence_honest": ("KL honest", "the same for the honest twin"),
    "distance": ("‖w − w0‖", "Euclidean distance of the weights from the original's"),
    "distance_honest": ("‖w − w0‖ honest", "the same for the honest twin"),
}
"""Columns of ``Findings.certificates``: title and meaning; all are taken on test images"""


@dataclass(frozen=True)
class Findings:
    """The tables of a run, each made when it is first asked for."""

    run: Run

    @cached_property
    def table(self) -> pd.DataFrame:
        """The headline: absolute maps at input resolution."""
        return ranking.scores(self.run.rows, self.run.header)

    @cached_property
    def others(self) -> list[pd.DataFrame]:
        """The same of signed maps and of maps at T, where the run has them; never ranked together with the headline."""
        rows = self.run.rows[["polarity", "at"]].drop_duplicates()
        kinds = sorted({(str(r.polarity), str(r.at)) for r in rows.itertuples()} - {("absolute", "input")})
        return [ranking.scores(self.run.rows, self.run.header, polarity=p, at=at) for p, at in kinds]

    @cached_property
    def _cells(self) -> pd.DataFrame:
        frame = ranking.by(self.run.rows, self.run.header, "cell")
        return frame.reindex(columns=["interpreter", "cell", "transfer", "attacked"])

    @cached_property
    def by_cell(self) -> pd.DataFrame:
        """Stability, interpreters × cells, in the order of the headline; interpreters without any are left out."""
        frame = self._cells.assign(value=self._cells["transfer"].fillna(self._cells["attacked"]))
        wide = frame.pivot(index="interpreter", columns="cell", values="value")
        order = [i for i in self.table["interpreter"] if i in wide.index]
        cells = [c for c in self.run.header["cells"] if c in wide.columns]
        return wide.loc[order, cells].dropna(how="all").dropna(axis=1, how="all")

    @cached_property
    def kin(self) -> set[tuple[str, str]]:
        """(interpreter, cell) where the cell attacks the interpreter's own family."""
        own = self._cells[self._cells["attacked"].notna()]
        return set(zip(own["interpreter"], own["cell"], strict=True))

    @cached_property
    def ranks(self) -> pd.DataFrame:
        """Every interpreter's rank under every way to score that ranks two or more."""
        return multiverse.comparing(multiverse.multiverse(self.run.rows, self.run.header))

    @cached_property
    def friedman(self) -> tuple[list[str], Friedman]:
        return pairing.friedman(self.run.rows, self.run.header)

    @cached_property
    def certificates(self) -> pd.DataFrame:
        """One row per setting and cell: what its fooled model kept and what it changed, on test images."""
        return pd.DataFrame([_certificate(*one) for one in certificates(self.run.header)], columns=list(CERTIFICATE))

    @cached_property
    def transfer(self) -> pd.DataFrame:
        """Corrected fooling rate in [0, 1], cells × attacked interpreters, mean over settings.

        Each setting's rate is ``floored`` before: it has no lower end, and one setting would outweigh all others.
        """
        found = [
            {"cell": cell, "against": label, "rate": floored(rates)}
            for _, cell, about, _ in certificates(self.run.header)
            for label, rates in (about.get("transfer") or {}).items()
        ]
        if not found:
            return pd.DataFrame()
        frame = pd.DataFrame(found)
        wide = frame.pivot_table(index="cell", columns="against", values="rate", sort=False)
        return wide[list(dict.fromkeys(frame["against"]))]

    @cached_property
    def fooled(self) -> dict[str, tuple[int, int]]:
        """cell → in how many settings it was fooled, and how many settings have its certificate."""
        counts = self.certificates.groupby("cell", sort=False)["status"].agg([lambda s: (s == "fooled").sum(), "size"])
        return {str(cell): (int(some), int(all_)) for cell, some, all_ in counts.itertuples()}

    @cached_property
    def aopc(self) -> dict[str, dict[str, list[float]]]:
        """cell → curve → values, mean over the settings that have curves of the same length."""
        gathered: dict[str, dict[str, list[list[float]]]] = {}
        for _, cell, about, _ in certificates(self.run.header):
            for name, values in (about.get("aopc") or {}).items():
                gathered.setdefault(cell, {}).setdefault(name, []).append(values)
        return {cell: {n: _mean_curve(v) for n, v in curves.items()} for cell, curves in gathered.items()}

    @cached_property
    def localisation(self) -> pd.DataFrame:
        """Do maps lie on the object? One row per interpreter in the order of the headline, ``located.COLUMNS``."""
        return located.table(self.run.header, list(self.table["interpreter"]))

    @cached_property
    def sentences(self) -> list[str]:
        """What was found, most important first."""
        return [
            s
            for s in (*_winners(self.table), _attacked(self.table), _blind(self.table), _cells(self.certificates))
            if s
        ]

    @cached_property
    def warnings(self) -> list[str]:
        """What a reader must know before quoting a number."""
        header = self.run.header
        found = []
        if header.get("limit"):
            found.append(f"limited: not to be submitted. Only {header['limit']} images per setting were asked about.")
        if failures := header.get("failures"):
            names = _listed(dict.fromkeys(f["interpreter"] for f in failures))
            found.append(f"incomplete: {names} failed in {_count(len(failures), 'case')}; the reasons stand below.")
        if self.table.attrs["conditional"]:
            found.append("One setting: intervals are over its images, and hold for its networks only.")
        return found + [f"broken suite: {line}" for line in ranking.canaries_exposed(self.table)]


def certificates(header: Mapping) -> Iterable[tuple[str, str, Mapping, Mapping]]:
    """(setting, cell, the cell's certificate, the honest twin's) of every certificate in a run's header."""
    for setting, about in header.get("settings", {}).items():
        for name, cell in header.get("cells", {}).items():
            found = (cell.get("certificates") or {}).get(setting)
            if found:
                yield setting, name, found, about.get("honest") or {}


def floored(rates: Mapping) -> float:
    """The corrected rate of a certificate's rates, those below 0 (worse than maps dealt out at random) as 0.

    NaN where there is none.
    """
    rate = rates.get("corrected")
    return np.nan if rate is None else max(float(rate), 0.0)


def _certificate(setting: str, cell: str, about: Mapping, honest: Mapping) -> dict[str, object]:
    kept, rates = about.get("kept", {}), about.get("rates", {})
    return {
        "setting": setting,
        "cell": cell,
        "status": about.get("status", ""),
        "weight": None if about.get("weight") is None else f"{about['weight']:g}",
        "accuracy_before": honest.get("original_accuracy"),
        "accuracy_honest": honest.get("accuracy"),
        **{name: kept.get(name) for name in ("accuracy", "agreement", "divergence", "distance")},
        "divergence_honest": honest.get("divergence"),
        "distance_honest": honest.get("distance"),
        **{name: rates.get(name) for name in RATES},
    }


def _mean_curve(curves: list[list[float]]) -> list[float]:
    whole = [c for c in curves if len(c) == len(curves[0])]
    return np.mean(whole, axis=0).tolist()


def _winners(table: pd.DataFrame) -> list[str]:
    ranked = table[table["rank"].notna() & ~table["canary"]]
    if ranked.empty:
        return ["No interpreter could be ranked."]
    if table.attrs.get("conditional"):
        return ["One network ranks nobody: what stands here is how stable each was on it."]
    best, last = ranked.iloc[0], ranked.iloc[-1]
    tied = [r.interpreter for r in ranked.iloc[1:].itertuples() if set(r.tie) & set(best["tie"])]
    said = f"{best['interpreter']} stays most stable when another family is attacked: {_stability(best)}"
    if len(ranked) == 1:
        return [f"{best['interpreter']} is the only one ranked: stability {_stability(best)}."]
    if len(tied) == len(ranked) - 1:
        return [f"{said}; but none of the {len(ranked)} ranked interpreters could be told from it."]
    apart = f", tied with {_listed(tied)}" if tied else ", ahead of all others"
    return [f"{said}{apart}.", f"{last['interpreter']} is the least stable: {_stability(last)}."]


def _attacked(table: pd.DataFrame) -> str:
    hit = table[table["rank"].notna() & table["attacked"].notna() & ~table["canary"]]
    if hit.empty:
        return ""
    worst = hit.loc[hit["attacked"].idxmin()]
    return f"Attacked head-on, {worst['interpreter']} falls lowest: {_stability(worst, 'attacked')}."


def _stability(row: pd.Series, column: str = "transfer") -> str:
    value = f"{row[column]:.2f}"
    ends = row[f"{column}_low"], row[f"{column}_high"]
    text = f"{value} (95 % interval {ends[0]:.2f} to {ends[1]:.2f})" if np.isfinite(ends).all() else value
    return text.replace("-", "−")


def _blind(table: pd.DataFrame) -> str:
    real = table[table["rank"].isna() & ~table["canary"]]
    canaries = table[table["canary"]]
    parts = []
    if len(real):
        parts.append(f"Not ranked: {_listed(f'{r.interpreter} ({_kind(r.reason)})' for r in real.itertuples())}.")
    if len(canaries) and canaries["rank"].isna().all():
        parts.append(f"{_count(len(canaries), 'canary', 'canaries')}, which never look at the model: all found out.")
    return " ".join(parts)


def _kind(reason: str) -> str:
    return reason.split(":")[0] or "no score"


def _cells(frame: pd.DataFrame) -> str:
    if frame.empty:
        return ""
    fooled, settings = int((frame["status"] == "fooled").sum()), frame["setting"].nunique()
    resisted = len(frame) - fooled
    over = f" in {settings} settings" if settings > 1 else ""
    if not resisted:
        return f"Every attempt to fool{over} ({len(frame)}) fooled the interpreter that it was aimed at."
    return (
        f"Of {_count(len(frame), 'attempt')} to fool{over}, {fooled} fooled the interpreter that they were aimed at; "
        f"{resisted} {'was' if resisted == 1 else 'were'} resisted."
    )


def _count(number: int, word: str, many: str = "") -> str:
    return f"{number} {word if number == 1 else many or word + 's'}"


def _listed(names: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *most, last = list(names)
    return f"{', '.join(most)} and {last}" if most else last
