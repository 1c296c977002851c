"""A frame of the leaderboard → the words that people read: which columns, in which form, – where undefined."""

from __future__ import annotations

import numpy as np
import pandas as pd

from unfooled.leaderboard.columns import Column, column
from unfooled.wording import one_line

UNDEFINED = "–"


def blocks(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Heading → the table below it, as ``shown``: a breakdown has one of ``transfer`` and one of ``attacked``.

    Any other frame is one table, under an empty heading. Interpreters without a number stand in the first one only.
    """
    if "by" not in frame.attrs:
        return {"": shown(frame)}
    found = {column(value).heading: shown(frame, value) for value in ("transfer", "attacked")}
    attacked = column("attacked").heading
    said = found[attacked].iloc[:, 1:].ne(UNDEFINED).any(axis=1).astype(bool)
    if not said.any():
        return {column("transfer").heading: found[column("transfer").heading]}
    return found | {attacked: found[attacked][said]}


def shown(frame: pd.DataFrame, value: str = "transfer") -> pd.DataFrame:
    """The frame as people read it: words in every field, estimates joined with their intervals, – where undefined.

    A ranked table leaves out columns that hold nothing, and ranks where one setting, which ranks nobody, is all there
    is; a breakdown becomes one row per interpreter with ``value`` for each of the group's members.
    """
    if "by" in frame.attrs:
        return _pivot(frame, value)
    return _ranked(frame) if {"rank", "transfer"} <= set(frame.columns) else _words(frame)


def _pivot(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    group = frame.attrs["by"]
    ends = (frame[c] for c in (value, f"{value}_low", f"{value}_high"))
    words = [_with_interval(*(_number(v, 2) for v in one)) for one in zip(*ends, strict=True)]
    wide = frame.assign(word=words).pivot(index="interpreter", columns=group, values="word").fillna(UNDEFINED)
    wide = wide.loc[frame["interpreter"].drop_duplicates(), frame[group].drop_duplicates()]
    arrow = column(value).arrow
    table = pd.DataFrame(wide.to_numpy(), columns=[f"{one_line(member)} {arrow}" for member in wide], dtype=object)
    table.insert(0, column("interpreter").heading, _names(frame.attrs, wide.index))
    return table.astype(object)


def _words(frame: pd.DataFrame) -> pd.DataFrame:
    joined = [c for c in frame if {f"{c}_low", f"{c}_high"} <= set(frame.columns)]
    inside = {f"{c}_{part}" for c in joined for part in ("low", "high", "settings")}
    words = {column(c).heading: [_word(v, column(c)) for v in frame[c]] for c in frame.columns if c not in inside}
    words |= {column(c).heading: _estimates(frame, c) for c in joined}
    if "interpreter" in frame:
        words[column("interpreter").heading] = _names(frame.attrs, frame["interpreter"])
    return pd.DataFrame(words, dtype=object)  # a table without rows holds words too


def _names(about: dict, labels: pd.Series | pd.Index) -> list[str]:
    canaries = about.get("canaries", ())
    return [one_line(label) + (" (canary)" if label in canaries else "") for label in labels]


def _estimates(frame: pd.DataFrame, name: str) -> list[str]:
    ends = frame[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False)
    whats = [column(name), column(f"{name}_low"), column(f"{name}_high")]
    return [_with_interval(*(_word(v, what) for v, what in zip(one, whats, strict=True))) for one in ends]


def _word(value: object, what: Column) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return UNDEFINED
    if isinstance(value, (int, float, np.number)) and what.digits is not None:
        return f"{value:.{what.digits}f}"
    return one_line(value)


def _number(value: float, digits: int) -> str:
    return UNDEFINED if np.isnan(value) else f"{value:.{digits}f}"


def _ranked(frame: pd.DataFrame) -> pd.DataFrame:
    rank, tie, name = (column(c).heading for c in ("rank", "tie", "interpreter"))
    canaries = {"canaries": set(frame["interpreter"][frame["canary"]])}
    table = {name: _names(canaries, frame["interpreter"])}
    if not frame.attrs.get("conditional"):
        ends = frame[["rank", "rank_low", "rank_high"]].itertuples(index=False)
        words = [_with_ends(*(_number(v, 0) for v in one), "–", "()") for one in ends]
        table = {rank: words, tie: [_word(v, column("tie")) for v in frame["tie"]], **table}
    table |= {column(c).heading: _estimates(frame, c) for c in ("transfer", "attacked", "adaptive")}
    for c in ("worst", "worst_cell", "metrics_counted", "coverage"):
        table[column(c).heading] = [_word(v, column(c)) for v in frame[c]]
    words = pd.DataFrame(table, dtype=object)
    nothing = words.isin([UNDEFINED, ""]).all()
    return words[[c for c in words if not nothing[c] or c == column("transfer").heading]]


def _with_interval(value: str, low: str, high: str) -> str:
    return _with_ends(value, low, high, ", ", "[]")


def _with_ends(value: str, low: str, high: str, between: str, brackets: str) -> str:
    known = value != UNDEFINED and UNDEFINED not in (low, high)
    return f"{value} {brackets[0]}{low}{between}{high}{brackets[1]}" if known else value


def place(frame: pd.DataFrame, label: str) -> str:
    """One line that says where an interpreter stands in a ``ranking.scores`` table, or why it has no rank."""
    found, who = frame[frame["interpreter"] == label], one_line(label)
    if found.empty:
        return f"{who}: not in this table, which is of other maps or of those that did not fail"
    reason = found["reason"].iloc[0]
    if reason:
        return f"{who}: not ranked: {reason}"
    line = shown(found).iloc[0]
    rank, alone = column("rank").heading, frame.attrs.get("conditional")
    said = [] if alone else [f"rank {line[rank]} of {frame['rank'].notna().sum()} by stability"]
    for name, where in (("transfer", "other families are"), ("attacked", "its own is"), ("adaptive", "it is itself")):
        words = line.get(column(name).heading, UNDEFINED)
        said += [f"{words} where {where} attacked"] if words != UNDEFINED else []
    said += ["and no rank, as one network ranks nobody"] if alone else []
    return f"{who}: {'stability ' if alone else ''}{', '.join(said)}"


def is_number(words: pd.Series) -> bool:
    """Does a column of words hold numbers only, with their intervals?"""
    return bool(words.astype(object).str.match(r"^(–|-?[\d.]+(\s[(\[].*)?)$").all())
