"""The printers: every number arrives, nothing from a label breaks the page."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from synthetic_rows import CANARIES, REAL, Truth, World, header, rows

from unfooled.leaderboard import multiverse, pairing, ranking, tables
from unfooled.leaderboard.columns import BY_NAME, COLUMNS

HOSTILE = "x|y_z & 5% [red]<b>\n\x1b[31m"
WORLD = World(
    (*REAL, *CANARIES, Truth(HOSTILE, "other", 0.6)), settings=(("a-0", "a"), ("a-1", "a"), ("b-0", "b")), images=6
)


@pytest.fixture(scope="module")
def run():
    return rows(WORLD), header(WORLD)


@pytest.fixture(scope="module")
def table(run):
    return ranking.scores(*run)


def test_every_column_of_every_table_is_described(run, table):
    frames = [table, *(ranking.by(*run, g) for g in ("manipulation", "model", "metric", "cell"))]
    frames += [pairing.pairwise(*run), multiverse.rank_ranges(multiverse.multiverse(*run))]
    assert not {c for frame in frames for c in frame.columns} - set(BY_NAME)
    assert len(BY_NAME) == len(COLUMNS)


def test_text_is_aligned_plain_and_says_why_one_is_not_ranked(table):
    text = tables.as_text(table, width=160)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 160
    assert "not ranked: sobel: insensitive: 0 of 6 metrics tell the model from a random one" in text
    assert "95 % intervals over 3 settings" in text
    assert "[red]" in text  # rich's markup is not read
    first = table.iloc[0]
    assert f"{first['transfer']:.3f} [{first['transfer_low']:.2f}, {first['transfer_high']:.2f}]" in text


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_a_narrow_terminal_gets_fewer_columns_and_is_told_which(table, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    text = tables.as_text(table)
    assert max(map(len, text.splitlines())) <= width
    head, wide = text.splitlines()[0], tables.as_text(table, width=200).splitlines()[0]
    missing = [word for word in wide.split("   ") if word.strip() and word.strip() not in head]
    told = " ".join(text.splitlines()).partition("left out at ")[2]
    assert all(word.strip() in told for word in missing)
    assert bool(missing) == bool(told) == (width < 160)
    assert "transfer ↑" in head
    values = [line for line in text.splitlines() if "gradient " in line]
    assert "[" in values[0], "an interval is never cut off"


def test_an_interpreters_place_is_one_line(table):
    first, ranked = table.iloc[0], int(table["rank"].notna().sum())
    said = tables.place(table, first["interpreter"])
    assert said.startswith(
        f"{first['interpreter']}: rank 1 ({first['rank_low']:.0f}–{first['rank_high']:.0f}) of {ranked}"
    )
    assert f"by stability, {first['transfer']:.3f} [{first['transfer_low']:.2f}, " in said
    assert tables.place(table, "sobel").startswith("sobel: not ranked: insensitive")
    assert tables.place(table, "nobody").startswith("nobody: not in this table")
    assert len(tables.place(table, HOSTILE).splitlines()) == 1
    assert "\x1b" not in tables.place(table, HOSTILE)


def test_markdown_has_one_row_per_interpreter_and_its_bars_are_escaped(table):
    lines = [line for line in tables.as_markdown(table).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(table)
    bars = {line.replace("\\|", "").count("|") for line in lines}
    assert len(bars) == 1
    assert "<b>" not in "".join(lines)


def test_latex_escapes_what_it_must(table):
    latex = tables.as_latex(table)
    body = latex[latex.index(r"\midrule") : latex.index(r"\bottomrule")]
    assert r"x|y\_z \& 5\% [red]$<$b$>$" in body
    cells = {row.replace(r"\&", "").count("&") for row in body.splitlines()[1:-1]}
    assert len(cells) == 1
    assert all(line.startswith("%") for line in latex[: latex.index(r"\begin{table}")].splitlines())


def test_csv_and_json_carry_every_number_unrounded(table):
    csv = pd.read_csv(io.StringIO(tables.as_csv(table)))
    np.testing.assert_allclose(csv["transfer"], table["transfer"], rtol=1e-12)
    data = json.loads(tables.as_json(table), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert [c["name"] for c in data["columns"]] == list(table.columns)
    assert data["rows"][0]["transfer"] == pytest.approx(table["transfer"][0], rel=1e-12)
    assert data["rows"][-1]["transfer"] is None
    assert data["rows"][0]["memory"] == 2.5
    assert HOSTILE in {row["interpreter"] for row in data["rows"]}


@pytest.mark.parametrize("form", tables.PRINTERS)
@pytest.mark.parametrize("group", ["manipulation", "model", "metric"])
def test_breakdowns_print_one_row_per_interpreter(run, form, group):
    frame = ranking.by(*run, group)
    printed = tables.PRINTERS[form](frame)
    assert all(str(name) in printed.replace("\\", "") for name in frame[group].unique())
    assert len(tables.shown(frame)) == len(WORLD.truths)


def test_a_conditional_table_says_so_and_small_runs_print():
    world = replace(WORLD, settings=(("a-0", "a"),), truths=REAL[:1], against=("activations",))
    frame, about = rows(world), header(world)
    table = ranking.scores(frame, about)
    assert "over the images of one setting, conditional on it" in tables.caption(table)
    for form in tables.PRINTERS.values():
        assert "gradient" in form(table)
    assert "attacked ↑" not in tables.shown(table)
    assert "gradient" in tables.as_text(ranking.scores(frame.iloc[:0], about))


def test_a_table_of_nobody_is_a_table(run):
    """A run may hold no interpreter at T: its table has a head and no rows, in every form."""
    nobody = ranking.scores(*run, at="T")
    assert nobody.empty
    for printer in tables.PRINTERS.values():
        assert printer(nobody)
