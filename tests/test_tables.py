"""The printers: every number arrives, nothing from a label breaks the page."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from synthetic_rows import CANARIES, REAL, Truth, World, header, rows

from unfooled.leaderboard import captions, latex, layout, multiverse, pairing, ranking, tables
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
    frames += [pairing.pairwise(*run), multiverse.rank_ranges(multiverse.multiverse(*run)), ranking.costs(table)]
    assert not {c for frame in frames for c in frame.columns} - set(BY_NAME)
    assert len(BY_NAME) == len(COLUMNS)


def test_text_is_aligned_plain_and_says_why_one_is_not_ranked(table):
    text = tables.as_text(table, width=160)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 160
    assert "not ranked: sobel: insensitive: 0 of 6 metrics tell the model from a random one" in text
    assert "95 % intervals over 3 networks of 2 architectures; they say nothing of other architectures." in " ".join(
        text.split()
    )
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
    printed = tables.as_latex(table)
    body = printed[printed.index(r"\midrule") : printed.index(r"\bottomrule")]
    assert r"x|y\_z \& 5\% [red]$<$b$>$" in body
    cells = {row.replace(r"\&", "").count("&") for row in body.splitlines()[1:-1]}
    assert len(cells) == 1
    assert printed.startswith("% needs \\usepackage{booktabs}\n\\begin{table}\n")


def test_latex_says_its_legend_below_and_has_a_name(table):
    printed = tables.as_latex(table)
    below = printed[printed.index(r"\end{tabular}") :]
    assert r"\footnotesize" in below
    for line in [*captions.notes(table), *captions.legend(table)]:
        assert latex.escaped(line) in below
    assert printed.count(r"\label{tab:stability-absolute-input}") == 1
    names = [latex.label(f) for f in (table, ranking.costs(table))]
    assert names == ["tab:stability-absolute-input", "tab:cost-absolute-input"]


def valid_latex(text):
    """Braces and dollars are even, nothing special is bare, no row begins like an argument of the row end before it."""
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    rest = re.sub(r"\\(label|begin|end)\{[^}]*\}", "", "\n".join(lines))
    rest = re.sub(r"\\[&%$#_{}\\]", "", rest)
    assert rest.count("$") % 2 == 0
    rest = re.sub(r"\$[^$\n]*\$", "", rest)
    assert not re.search(r"[#_^~%$]", rest)
    assert rest.count("{") == rest.count("}")
    assert not any(line.startswith(("[", "*")) for line in lines)
    rows = text[text.index(r"\toprule") : text.index(r"\bottomrule")].replace(r"\&", "").splitlines()
    return {row.count("&") for row in rows if row.endswith(r"\\") and not row.startswith(r"\multicolumn")}


@pytest.mark.parametrize("label", ["[1ex] a", "*", "\\end{table}", "a^b~c#d$e%f{g}&h_i\\", "−1 – ↑ ×"])
def test_latex_stays_valid_whatever_a_label_holds(run, table, label):
    everyone = [table, ranking.costs(table), *(ranking.by(*run, g) for g in ("manipulation", "metric", "cell"))]
    everyone += [multiverse.rank_ranges(multiverse.multiverse(*run))]
    for frame in everyone:
        named = frame.assign(interpreter=frame["interpreter"].replace(HOSTILE, label))
        assert len(valid_latex(tables.as_latex(named))) == 1


def test_latex_has_minus_signs_for_numbers_alone():
    world = replace(WORLD, truths=(*REAL, Truth("a-b -1", "other", -0.5)))
    printed = tables.as_latex(ranking.scores(rows(world), header(world)))
    line = next(line for line in printed.splitlines() if "a-b -1 &" in line)
    assert re.search(r"\$-\$0\.\d{3} \[\$-\$\d\.\d\d, \$-\$\d\.\d\d\]", line)
    assert not re.search(r"(?<![$-])-\d", line.replace("a-b -1", ""))


def test_csv_and_json_carry_every_number_unrounded(table):
    csv = pd.read_csv(io.StringIO(tables.as_csv(table)))
    np.testing.assert_allclose(csv["transfer"], table["transfer"], rtol=1e-12)
    data = json.loads(tables.as_json(table), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert [c["name"] for c in data["columns"]] == list(table.columns)
    assert data["rows"][0]["transfer"] == pytest.approx(table["transfer"][0], rel=1e-12)
    assert data["rows"][-1]["transfer"] is None
    assert data["rows"][0]["memory"] == 2.5
    assert HOSTILE in {row["interpreter"] for row in data["rows"]}


@pytest.mark.parametrize("form", ["text", "markdown", "latex"])
@pytest.mark.parametrize("group", ["manipulation", "model", "metric", "cell"])
def test_breakdowns_say_both_columns_with_arrows_and_intervals(run, form, group):
    frame = ranking.by(*run, group)
    printed = tables.PRINTERS[form](frame).replace("$", "").replace(r"\uparrow", "↑").replace("\\", "")
    for value in ("transfer", "attacked"):
        for row in frame[frame[value].notna()].itertuples():
            ends = getattr(row, f"{value}_low"), getattr(row, f"{value}_high")
            words = f"{getattr(row, value):.2f} [{ends[0]:.2f}, {ends[1]:.2f}]"
            # in a terminal the interval may stand below its estimate
            assert words in printed or (form == "text" and words.partition(" ")[2] in printed)
        assert f"{value} ↑: stability where " in printed
    assert "(any)" in printed
    assert f"each column but the first: one {group}" in printed
    assert ("surely 0.1" if group == "metric" else "too few metrics count") in printed
    assert "sobel (canary)" in printed
    headings = [c for c in layout.shown(frame) if c != "interpreter"]
    assert len(headings) == frame[group].nunique()
    assert all(c.endswith(" ↑") for c in headings)


def test_a_breakdown_has_a_block_of_all_and_one_of_those_attacked(run):
    found = layout.blocks(ranking.by(*run, "manipulation"))
    assert list(found) == ["transfer ↑", "attacked ↑"]
    assert len(found["transfer ↑"]) == len(WORLD.truths)
    assert set(found["attacked ↑"]["interpreter"]) == {t.label for t in REAL}


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("group", ["metric", "cell"])
def test_no_terminal_is_too_narrow_for_a_breakdown(run, group, width):
    frame = ranking.by(*run, group)
    text = tables.as_text(frame, width=width)
    assert max(map(len, text.splitlines())) <= width
    intervals = re.findall(r"\[-?\d\.\d\d, -?\d\.\d\d\]", text)
    assert len(intervals) == frame[["transfer_low", "attacked_low"]].notna().sum().sum()


def test_breakdowns_name_their_group_right_after_the_interpreter(run):
    for group in ("manipulation", "model", "metric", "cell"):
        frame = ranking.by(*run, group)
        assert tables.as_csv(frame).startswith(f"interpreter,{group},transfer,")
        data = json.loads(tables.as_json(frame))
        assert [c["name"] for c in data["columns"]][:2] == ["interpreter", group]
        assert f"by {group}: 1 is" in data["caption"]
        assert "left out" not in data["caption"]


def test_a_caption_tells_how_many_settings_each_column_is_over(run):
    frame, about = run
    table = ranking.scores(frame[~((frame["interpreter"] == "cam") & (frame["setting"] == "a-1"))], about)
    assert "over 2 to 3 of 3 networks of 2 architectures" in tables.caption(table)
    assert tables.caption(ranking.by(frame, about, "model")).endswith("over 1 to 2 settings each.")
    fewer = frame[frame["setting"] != "a-1"]
    kept = frame[(frame["setting"] != "a-1") | (frame["twin"] == "randomised")]
    assert "over 2 networks of 2 architectures" in tables.caption(ranking.scores(fewer, about))
    assert "over 2 of 3 networks of 2 architectures" in tables.caption(ranking.scores(kept, about))
    nameless = {**about, "settings": {name: {} for name in about["settings"]}}
    assert tables.caption(ranking.scores(frame, nameless)).endswith("; 95 % intervals over 3 settings.")


def test_a_caption_tells_how_far_the_adaptive_attacks_went():
    world = replace(WORLD, truths=REAL, adaptive={"gradient|location": 0.0, "gradient|top_k": 0.3})
    frame, about = rows(world), {**header(world), "adaptive": {"extent": "quick"}}
    kept = frame[~(frame["cell"].str.contains("|", regex=False) & (frame["setting"] == "b-0"))]
    said = tables.caption(ranking.scores(kept, about))
    assert said.endswith(" Adaptive (quick): the worst of 2 manipulations, over 2 settings of 1 architecture.")
    assert "Adaptive" not in tables.caption(ranking.scores(*(rows(WORLD), header(WORLD))))


def test_ranks_by_choice_are_a_table_in_every_form():
    labels = ("mse", "hog", "hog(cells=4)")
    world = replace(WORLD, metrics=labels, polarities=("absolute", "signed"), truths=(*REAL, *CANARIES))
    ranges = multiverse.rank_ranges(multiverse.multiverse(rows(world), header(world)))
    said = tables.caption(ranges)
    assert "under each of 10 ways to score that rank two or more: absolute or signed maps × " in said
    assert "hog, mse or their mean × variants hog(cells=4)" in said
    for form in ("text", "markdown", "latex"):
        printed = tables.PRINTERS[form](ranges)
        assert "over all specifications that rank it (1 or more)" in printed
        assert "sobel (canary)" in printed
    assert tables.as_csv(ranges).startswith("interpreter,best_rank,median_rank,worst_rank,specifications\n")
    assert json.loads(tables.as_json(ranges))["caption"] == said


def test_costs_stand_beside_transfer_in_every_form(run, table):
    costs = ranking.costs(table)
    assert list(layout.shown(costs)) == [
        *("interpreter", "transfer ↑", "forward ↓ (passes)", "backward ↓ (passes)", "memory ↓ (MiB)")
    ]
    assert tables.as_csv(costs).startswith("interpreter,transfer,transfer_low,transfer_high,transfer_settings,forward,")
    frame, about = run
    told = {k: v | {"cost": v["cost"] | {"seconds": 0.25}} for k, v in about["interpreters"].items()}
    timed = layout.shown(ranking.costs(ranking.scores(frame, {**about, "interpreters": told})))
    assert set(timed["seconds ↓ (s)"]) == {"0.2500"}


ALONE = replace(WORLD, settings=(("a-0", "a"),))


def test_one_setting_ranks_nobody_where_people_read():
    table = ranking.scores(rows(ALONE), header(ALONE))
    assert "over the images of one setting, conditional on it. One network ranks nobody." in tables.caption(table)
    assert not {"rank ↓", "ties"} & set(tables.shown(table))
    for form in ("text", "markdown", "latex"):
        assert "rank $" not in tables.PRINTERS[form](table)
        assert "rank ↓" not in tables.PRINTERS[form](table)
    place = tables.place(table, "smooth")
    assert place.startswith(f"smooth: stability {table['transfer'][0]:.3f} [")
    assert place.endswith(" where its own is attacked, and no rank, as one network ranks nobody")
    # what programs read keeps its columns: docs and scripts that take the order from them go on
    data = json.loads(tables.as_json(table))
    assert "One network ranks nobody" in data["caption"]
    assert data["rows"][0]["rank"] == 1


def test_small_runs_print():
    world = replace(ALONE, truths=REAL[:1], against=("activations",))
    frame, about = rows(world), header(world)
    table = ranking.scores(frame, about)
    for form in tables.PRINTERS.values():
        assert "gradient" in form(table)
    assert "attacked ↑" not in tables.shown(table)
    assert list(layout.blocks(ranking.by(frame, about, "metric"))) == ["transfer ↑"]
    assert "gradient" in tables.as_text(ranking.scores(frame.iloc[:0], about))


def test_a_table_of_nobody_is_a_table(run):
    """A run may hold no interpreter at T: its table has a head and no rows, in every form."""
    nobody = ranking.scores(*run, at="T")
    assert nobody.empty
    for frame in (nobody, ranking.by(*run, "metric", at="T"), ranking.costs(nobody)):
        assert frame.empty
        for printer in tables.PRINTERS.values():
            assert printer(frame)
