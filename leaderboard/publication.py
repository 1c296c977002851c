"""The reference results as a page, pictures and small tables: ``python -m unfooled.leaderboard.publication RUN``."""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

import click
import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from unfooled import figures, records
from unfooled.intervals import Spread
from unfooled.leaderboard import carryover, claims, heo, literature, markdown, multiverse, pairing, ranking, tables
from unfooled.leaderboard.claims import Estimate, Finding
from unfooled.leaderboard.evidence import Evidence
from unfooled.plots import style
from unfooled.records import Run
from unfooled.store import publish

PICTURES = ("stability", "transfer", "aopc")
WIDTH = 120
"""columns of the page's text"""
VACUOUS = 0.95
"""a criterion that this share of other images' maps meets says nothing of a map that meets it"""


def write(run: Run, photographs: Run | None, docs: Path, reference: Path) -> list[Path]:
    """The page and its pictures in ``docs``, the tables in ``reference``; returns what was written."""
    evidence = Evidence(run)
    carry = carryover.carry_over(run, photographs) if photographs else None
    found = findings(evidence, carry)
    files = {docs / "findings.md": page(evidence, found, carry).encode()}
    files |= {docs / "pictures" / f"findings-{name}.png": content for name, content in pictures(evidence).items()}
    stem = f"{run.header['suite']['name']}-v{run.header['suite']['version']}"
    files |= {reference / f"{stem}{end}": text.encode() for end, text in results(evidence, found).items()}
    for path, content in files.items():
        publish(path, lambda temporary, content=content: temporary.write_bytes(content))
    return list(files)


def findings(evidence: Evidence, carry: carryover.CarryOver | None) -> dict[str, Finding]:
    """Every claim under its key: Heo et al.'s, the suite's own, others', and whether photographs agree."""
    found = [*heo.findings(evidence), literature.canaries(evidence), *literature.findings(evidence)]
    found += [carryover.finding(carry)] if carry else []
    return {one.key: one for one in found}


def page(evidence: Evidence, found: Mapping[str, Finding], carry: carryover.CarryOver | None) -> str:
    """The page in Markdown."""
    environment = Environment(
        loader=PackageLoader("unfooled.leaderboard"), undefined=StrictUndefined, keep_trailing_newline=True,
        autoescape=False,  # Markdown, and every outside word goes through ``md`` or the tables' own escape
    )  # fmt: skip
    environment.filters |= markdown.FILTERS
    text = environment.get_template("findings.md").render(
        f=found, short=list(found.values()), carry=carry, carried=_carried(carry), controls=_controls(evidence),
        ranked=evidence.found.table, groups=_groups(evidence), unranked=_unranked(evidence.found.table),
        **_ground(evidence), **_extremes(evidence), adaptive=_adaptive(evidence), track=_track(evidence),
    )  # fmt: skip
    return "\n\n".join(map(_wrapped, re.split(r"\n{2,}", text.strip()))) + "\n"


def _wrapped(block: str) -> str:
    """A paragraph in lines of one width; tables, headings, lists and pictures as they are."""
    if re.search(r"^(\||#|- |!\[)", block, re.M):
        return block.strip("\n")
    return textwrap.fill(" ".join(block.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def _ground(e: Evidence) -> dict[str, object]:
    header, table = e.run.header, e.found.table
    about = header["settings"].values()
    return {
        "suite": header["suite"],
        "versions": header["versions"],
        "created": header["created"][:10],
        "n_settings": e.settings,
        "n_cells": sum(map(e.study.common, header["cells"])),
        "models": list(dict.fromkeys(str(s["model"]) for s in about)),
        "datasets": list(dict.fromkeys(str(s["dataset"]).split("(")[0] for s in about)),
        "n_canaries": int(table["canary"].sum()),
        "n_real": int((~table["canary"]).sum()),
        "images": " and ".join(dict.fromkeys(str(sum((s.get("images") or {}).values())) for s in about)),
    }


def _groups(e: Evidence) -> dict[str, int]:
    """How many of the ranked interpreters, canaries apart, these networks tell apart."""
    real = e.found.table[e.found.table["rank"].notna() & ~e.found.table["canary"]]
    letters = {letter for tie in real["tie"] for letter in re.findall(r"[a-z]|\(\d+\)", tie)}
    pairs = pairing.pairwise(e.run.rows, e.run.header)
    pairs = pairs[pairs["a"].isin(real["interpreter"]) & pairs["b"].isin(real["interpreter"])]
    apart = int((pairs["p_holm"] < ranking.ALPHA).sum())
    return {"ranked": len(real), "groups": len(letters), "pairs": len(pairs), "apart": apart}


def _extremes(e: Evidence) -> dict[str, tuple[str, Estimate] | None]:
    """The most and the least stable of the ranked, and who falls lowest when its own family is attacked."""
    spreads = {"transfer": e.spread("transfer"), "attacked": e.spread("attacked")}
    ranked = {c: e.ranked[np.isfinite(s.value[e.ranked])] for c, s in spreads.items()}

    def one(column: str, sign: int) -> tuple[str, Estimate] | None:
        if not len(ranked[column]):
            return None
        i = ranked[column][np.argmax(sign * spreads[column].value[ranked[column]])]
        return e.study.interpreters[i], claims.of(spreads[column], i)

    return {"best": one("transfer", 1), "last": one("transfer", -1), "hit": one("attacked", -1)}


def _unranked(table: pd.DataFrame) -> list[tuple[str, str]]:
    real = table[table["rank"].isna() & ~table["canary"]]
    return list(zip(real["interpreter"], real["reason"], strict=True))


def _controls(e: Evidence) -> pd.DataFrame:
    """What the controls do to the ranked interpreters, the most stable first."""
    spreads = {"stability (transfer)": e.spread("transfer"), "top re-drawn": e.control("randomised_top"),
               "another class explained": e.control("wrong_class"),
               "another network": e.control("independent")}  # fmt: skip
    noise = e.found.table.set_index("interpreter")["self_noise"]
    order = e.ranked[np.argsort(-spreads["stability (transfer)"].value[e.ranked], kind="stable")]
    return pd.DataFrame(
        {"interpreter": e.study.interpreters[i], **{name: claims.of(s, i) for name, s in spreads.items()},
         "self-noise": noise[e.study.interpreters[i]]}
        for i in order
    )  # fmt: skip


def _adaptive(e: Evidence) -> pd.DataFrame:
    """Interpreters that models were fooled against, the least stable under it first; empty without that track."""
    table = e.found.table[e.found.table["adaptive"].notna()].sort_values("adaptive", kind="stable")
    spread = e.spread("attacked", "transfer")
    return pd.DataFrame(_attacked_itself(e, row, spread) for _, row in table.iterrows())


def _attacked_itself(e: Evidence, row: pd.Series, spread: Spread) -> dict[str, object]:
    name, told = row["interpreter"], _told(e.run.header, row["interpreter"])
    ends = (float(row[c]) for c in ("adaptive", "adaptive_low", "adaptive_high"))
    return {
        "interpreter": name,
        "stability, attacked itself": Estimate(*ends, e.settings),
        "by": row["adaptive_worst"],
        "stability, the suite's cells": claims.of(spread, e.study.interpreters.index(name)),
        "fooled": f"{_fooled(told)} of {len(_telling(told))}",
        "by means of": "; ".join(dict.fromkeys(str(t["attack"]) for t in told)),
    }


def _told(header: Mapping, interpreter: str) -> list[Mapping]:
    """The certificates of the models that were fooled against an interpreter itself."""
    own = [cell for cell in header["cells"].values() if cell.get("adaptive_for") == interpreter]
    return [one for cell in own for one in cell.get("certificates", {}).values()]


def _telling(told: Iterable[Mapping]) -> list[Mapping]:
    """The attempts whose criterion can tell: another image's map of the original does not meet it nearly always."""
    return [one for one in told if one.get("rates", {}).get("null", 0) < VACUOUS]


def _fooled(told: Iterable[Mapping]) -> int:
    return sum(one["status"] == "fooled" for one in told)


def _track(e: Evidence) -> dict[str, object]:
    """The adaptive track in numbers: interpreters, attempts, how many of them fooled, on which networks."""
    table, header = e.found.table, e.run.header
    told = [one for name in table["interpreter"] for one in _told(header, name)]
    telling, attacked = _telling(told), table["adaptive"].notna()
    return {
        "interpreters": int(attacked.sum()),
        "attempts": len(telling),
        "vacuous": len(told) - len(telling),
        "fooled": _fooled(told),
        "settings": sorted({str(one["setting"]) for one in told}),
        "missing": list(table["interpreter"][table["rank"].notna() & ~table["canary"] & ~attacked]),
        "lost": int((table["adaptive_high"] < 0).sum()),
        "first": next(table[attacked & table["rank"].notna()].itertuples(), None),
    }


def _carried(carry: carryover.CarryOver | None) -> pd.DataFrame:
    if carry is None:
        return pd.DataFrame()
    order = np.argsort(-carry.first, kind="stable")
    values = {"scenes": carry.first[order], "photographs": carry.second[order]}
    return pd.DataFrame({"interpreter": np.array(carry.interpreters)[order], **values})


def pictures(evidence: Evidence) -> dict[str, bytes]:
    """The report's figures that the page shows, as PNG files; those that the run has nothing for are left out."""
    drawn = {d.name: d.figure for d in islice(figures.drawings(evidence.found), 5)}
    return {name: style.png(drawn[name]) for name in PICTURES if drawn.get(name) is not None}


def results(evidence: Evidence, found: Mapping[str, Finding]) -> dict[str, str]:
    """End of a file's name → what is worth keeping of the run: tables and findings, no rows."""
    rows, header = evidence.run.rows, evidence.run.header
    kept = {key: header[key] for key in ("suite", "created", "versions", "settings", "metrics") if key in header}
    about = {**kept, "findings": [_as_data(one) for one in found.values()]}
    return {
        ".csv": tables.as_csv(evidence.found.table),
        ".json": tables.as_json(evidence.found.table),
        "-cells.csv": tables.as_csv(ranking.by(rows, header, "cell")),
        "-models.csv": tables.as_csv(ranking.by(rows, header, "model")),
        "-metrics.csv": tables.as_csv(ranking.by(rows, header, "metric")),
        "-pairs.csv": tables.as_csv(pairing.pairwise(rows, header)),
        "-ranks.csv": tables.as_csv(multiverse.rank_ranges(evidence.found.ranks)),
        "-certificates.csv": tables.as_csv(evidence.found.certificates),
        "-findings.json": json.dumps(_finite(about), indent=1, ensure_ascii=False) + "\n",
    }


def _as_data(one: Finding) -> dict[str, object]:
    conditions = [{**dataclasses.asdict(c), "states": c.states, "state": c.state} for c in one.conditions]
    return {"key": one.key, "claim": one.claim, "source": one.source, "verdict": one.verdict, "conditions": conditions}


def _finite(value: object) -> object:
    """The same as JSON can hold it: undefined numbers are null."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--photographs", type=click.Path(path_type=Path, exists=True), help="A run of cifar10, to compare.")
@click.option("--docs", type=click.Path(path_type=Path), default=Path("docs"), show_default=True)
@click.option("--reference", type=click.Path(path_type=Path), default=Path("leaderboard/reference"), show_default=True)
def main(run: Path, photographs: Path | None, docs: Path, reference: Path) -> None:
    """Write the findings of RUN as a page with pictures, and its tables."""
    for path in write(records.load(run), photographs and records.load(photographs), docs, reference):
        click.echo(path)


if __name__ == "__main__":
    main()
