"""What a run holds for and against the literature: certificates by setting, stabilities and controls with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from unfooled import intervals
from unfooled.findings import Findings, certificates, floored
from unfooled.intervals import Spread
from unfooled.leaderboard import claims, controls
from unfooled.leaderboard import stability as st
from unfooled.leaderboard.claims import Estimate
from unfooled.leaderboard.controls import Kind
from unfooled.leaderboard.stability import Study
from unfooled.records import Run


@dataclass(frozen=True)
class Evidence:
    """A run, looked at for the sake of claims. Absolute maps at input resolution; adaptive cells are left out."""

    run: Run

    @cached_property
    def found(self) -> Findings:
        return Findings(self.run)

    @cached_property
    def study(self) -> Study:
        return st.study(self.run.rows, self.run.header, "absolute", "input")

    @cached_property
    def member(self) -> Mapping[str, np.ndarray]:
        return st.columns(self.study)

    @cached_property
    def scored(self) -> np.ndarray:
        """bool (i, m): the metrics that count, none of an interpreter that is insensitive."""
        counted = st.counted_metrics(self.study)
        return st.averaged(counted)

    @cached_property
    def ranked(self) -> np.ndarray:
        """(k,) positions of the ranked interpreters that look at the model."""
        table = self.found.table
        names = set(table.loc[table["rank"].notna() & ~table["canary"], "interpreter"])
        return np.array([i for i, name in enumerate(self.study.interpreters) if name in names], int)

    @property
    def settings(self) -> int:
        return len(self.study.settings)

    def named(self, *uses: str) -> np.ndarray:
        """Positions of the interpreters of these catalogue names; of several variants the one with least arguments."""
        labels = self.study.interpreters
        own = [sorted((n for n in labels if n.split("(")[0] == use), key=len)[:1] for use in uses]
        return np.array([labels.index(n) for some in own for n in some], int)

    def spread(self, *columns: str) -> Spread:
        """Stability over the cells of these columns, all interpreters; its units are the settings that have such cells.

        Columns: ``attacked``, ``transfer``, ``adaptive``.
        """
        cells = np.logical_or.reduce([self.member[c] for c in columns])
        return intervals.jackknife(*st.totals(self.study, cells), self.scored)

    def one(self, spread: Spread, *uses: str) -> Estimate:
        """The interpreter of that name, or the mean of several, those without a score left out."""
        which = self.named(*uses)
        return claims.of(spread, which[np.isfinite(spread.value[which])])

    def less(self, spread: Spread, a: str, *b: str) -> Estimate:
        """Interpreter a less b (the mean of several); undefined where one is missing or has no score."""
        left, right = (w[np.isfinite(spread.value[w])] for w in (self.named(a), self.named(*b)))
        return claims.difference(spread, left, right)

    def control(self, kind: Kind) -> Spread:
        """How little a control moves the maps; see ``controls.control``."""
        return controls.control(self.study, kind, self.scored)

    @cached_property
    def by_setting(self) -> np.ndarray:
        """(s, i): transfer stability within each setting."""
        return intervals.pooled_ratios(*st.totals(self.study, self.member["transfer"]), self.scored)

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """One row per ranked interpreter and transfer cell: stability with its interval, and its value by setting."""
        rows = []
        for c, cell in enumerate(self.study.cells):
            member = self.member["transfer"] & (np.arange(len(self.study.cells)) == c)[:, None]
            spread = st.stability(self.study, member, self.scored)
            low, high = spread.interval()
            each = intervals.pooled_ratios(*st.totals(self.study, member), self.scored)
            rows += [
                {"interpreter": self.study.interpreters[i], "cell": cell, "value": spread.value[i], "low": low[i],
                 "high": high[i], **dict(zip(self.study.settings, each[:, i], strict=True))}
                for i in self.ranked if member[c, i]
            ]  # fmt: skip
        return pd.DataFrame(rows, columns=["interpreter", "cell", "value", "low", "high", *self.study.settings])

    @cached_property
    def certified(self) -> pd.DataFrame:
        """One row per setting and cell. Rates below 0, worse than dealing maps out at random, count as 0."""
        cells = self.run.header.get("cells", {})
        rows = [_certified(s, c, cells[c], about, honest) for s, c, about, honest in certificates(self.run.header)
                if self.study.common(c)]  # fmt: skip
        return pd.DataFrame(rows, columns=list(_COLUMNS))

    @cached_property
    def fooled(self) -> pd.DataFrame:
        """``certified`` where the attack worked: what is said of fooled networks is said of these."""
        return self.certified[self.certified["status"] == "fooled"]

    def mean(self, frame: pd.DataFrame, column: str) -> Estimate:
        """The mean of a column of ``certified`` within each setting, over settings."""
        return claims.over_settings(frame.groupby("setting")[column].mean())

    def located(self, use: str, what: str) -> np.ndarray:
        """(s,): ``mass`` or ``pointing`` of the original's maps, a setting each; NaN where the run has none."""
        where, labels = self.run.header.get("localisation", {}), [self.study.interpreters[i] for i in self.named(use)]
        found = [(where.get(f"{s}/{n}") or {}).get("original/") or {} for s in self.study.settings for n in labels]
        return np.array([f.get(what, np.nan) for f in found] or [np.nan] * self.settings, float)


_COLUMNS = (
    *("setting", "cell", "manipulation", "against", "status", "published", "corrected", "tuned", "silent"),
    *("lost", "to_others", "kept_order", "early_order", "own_order", "original_order", "distance"),
)


def _certified(setting: str, name: str, cell: Mapping, about: Mapping, honest: Mapping) -> dict[str, object]:
    rates, after = about.get("rates") or {}, (about.get("kept") or {}).get("accuracy", np.nan)
    others = [r for label, r in (about.get("transfer") or {}).items() if label != cell.get("against")]
    return {
        "setting": setting, "cell": name, "manipulation": str(cell.get("manipulation", "")).split("(")[0],
        "against": cell.get("against", ""), "status": about.get("status", ""),
        "published": rates.get("published", np.nan), "corrected": floored(rates), "tuned": floored(_chosen(about)),
        "silent": rates.get("silent", np.nan), "lost": honest.get("accuracy", np.nan) - after,
        "to_others": np.mean([floored(r) for r in others]) if others else np.nan,
        "distance": _quotient((about.get("kept") or {}).get("distance"), honest.get("distance")),
        **_orders(about.get("aopc") or {}),
    }  # fmt: skip


def _chosen(about: Mapping) -> Mapping:
    """What the search saw of the twin that it chose, on the tuning split; empty where the honest twin stands in."""
    weight = about.get("weight")
    tries = [t for t in about.get("tries") or () if weight is not None and t.get("weight") == weight]
    return tries[0] if tries else {}


def _quotient(top: float | None, bottom: float | None) -> float:
    return top / bottom if top is not None and bottom else np.nan


def _orders(curves: Mapping[str, list[float]]) -> dict[str, float]:
    """How much further the logit falls in one order of deletion than in another: AOPC over the whole curve.

    ``early``: over its first quarter.
    """

    def beyond(network: str, order: str, other: str, share: float = 1.0) -> float:
        first, second = (curves.get(f"{network}/{o}") or [np.nan] for o in (order, other))
        return first[max(round(share * len(first)), 1) - 1] - second[max(round(share * len(second)), 1) - 1]

    return {
        "kept_order": beyond("fooled", "original map", "random"),
        "early_order": beyond("fooled", "original map", "random", 0.25),
        "own_order": beyond("fooled", "original map", "fooled map"),
        "original_order": beyond("original", "original map", "random"),
    }
