"""What stands around a table: what its numbers are, over how many settings, what columns mean, who is not ranked."""

from __future__ import annotations

import pandas as pd

from unfooled.leaderboard.columns import COLUMNS, column
from unfooled.leaderboard.layout import UNDEFINED, shown
from unfooled.wording import one_line

UNDEFINED_BY = {
    "metric": "the metric's range (honest − randomised) is not surely 0.1 for this interpreter",
    "manipulation": "too few metrics count for this interpreter, so it is not ranked",
}
"""what – means in a breakdown; by another group it means what it does by manipulation"""
NOT_RANKED = f"{UNDEFINED}: undefined; the table of ranks says why one is not ranked"
"""what – means in another table that gives no reasons"""


def caption(frame: pd.DataFrame) -> str:
    """What the numbers mean and what their intervals are over; empty for a table of something else."""
    about = frame.attrs
    if "choices" in about:
        return _of_choices(about)
    if "polarity" not in about:
        return ""
    by = f" by {about['by']}" if "by" in about else ""
    scale = "1 is as stable as under honest fine-tuning, 0 is as a random network"
    over = _over(frame)
    ends = f"; 95 % intervals over {over}" if over else ""
    return f"Calibrated stability of {about['polarity']} maps at {_place(about)}{by}: {scale}{ends}.{_adaptive(frame)}"


def _place(about: dict) -> str:
    return "input resolution" if about["at"] == "input" else str(about["at"])


def _counts(frame: pd.DataFrame, *names: str) -> tuple[int, int]:
    """Over how many settings the defined numbers of these columns are: least and most; 0 and 0 without any."""
    found = pd.concat([frame[f"{n}_settings"] for n in names if f"{n}_settings" in frame] or [pd.Series(dtype=int)])
    found = found[found > 0]
    return (int(found.min()), int(found.max())) if len(found) else (0, 0)


def _over(frame: pd.DataFrame) -> str:
    about, (least, most) = frame.attrs, _counts(frame, "transfer", "attacked")
    if about.get("conditional"):
        return "the images of one setting, conditional on it. One network ranks nobody"
    if not most:
        return ""
    if about.get("by") == "model":
        return "the images of one setting each" if most == 1 else f"{_range(least, most)} settings each"
    some = _range(least, most) + (f" of {about['settings']}" if least < about["settings"] else "")
    if not about["architectures"]:
        return f"{some} settings"
    kinds = _count(about["architectures"], "architecture")
    return f"{some} networks of {kinds}; they say nothing of other architectures"


def _adaptive(frame: pd.DataFrame) -> str:
    track, (least, most) = frame.attrs.get("adaptive"), _counts(frame, "adaptive")
    if not track or not most or "adaptive" not in frame:
        return ""
    extent = f" ({one_line(track['extent'])})" if track["extent"] else ""
    worst = f"the worst of {_count(track['manipulations'], 'manipulation')}, " if track["manipulations"] > 1 else ""
    kinds = f" of {_count(track['architectures'], 'architecture')}" if track["architectures"] else ""
    return f" Adaptive{extent}: {worst}over {_range(least, most)} setting{'s' if most > 1 else ''}{kinds}."


def _of_choices(about: dict) -> str:
    """``multiverse.rank_ranges``: which choices its ranks are under."""
    choices, many = about["choices"], about["specifications"]
    metrics = ", ".join(m for m in choices["metric"] if m != "mean")
    metrics += " or their mean" if "mean" in choices["metric"] else ""
    variants = f"variants {', '.join(choices['variant'])}" if choices["variant"] else ""
    ways = " × ".join(filter(None, [f"{' or '.join(choices['polarity'])} maps", metrics, variants]))
    alone = " All are of one network, which ranks nobody." if about.get("conditional") else ""
    scored = f"{_count(many, 'way')} to score that rank two or more{f': {one_line(ways)}' if many else ''}"
    return f"Ranks by transfer stability of maps at {_place(about)} under each of {scored}.{alone}"


def _range(least: int, most: int) -> str:
    return f"{most}" if least == most else f"{least} to {most}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def legend(frame: pd.DataFrame) -> list[str]:
    """A line for each column of what ``shown`` prints: heading, meaning, range."""
    if "by" in frame.attrs:
        return _breakdown(frame)
    words = shown(frame)
    told = [c for c in COLUMNS if c.heading in set(words.columns) and c.name in frame.columns]
    undefined = "reason" not in frame and words.eq(UNDEFINED).any(axis=None)
    return [f"{c.heading}: {c.explained}" for c in told] + ([NOT_RANKED] if undefined and told else [])


def _breakdown(frame: pd.DataFrame) -> list[str]:
    by = frame.attrs["by"]
    told = [column(c) for c in ("interpreter", "transfer", "attacked")]
    undefined = UNDEFINED_BY.get(by, UNDEFINED_BY["manipulation"])
    return [
        *(f"{c.heading}: {c.explained}" for c in told),
        f"each column but the first: one {by} ({column(by).meaning}); estimate [its 95 % interval]",
        f"–: {undefined}, or the run has no such cells; who has none at all is not listed under attacked",
    ]


def notes(frame: pd.DataFrame) -> list[str]:
    """What the table leaves open: why each interpreter that is not ranked is not."""
    if not {"reason", "rank"} <= set(frame.columns):
        return []
    unranked = frame[frame["reason"] != ""]
    return [f"not ranked: {one_line(r.interpreter)}: {r.reason}" for r in unranked.itertuples()]
