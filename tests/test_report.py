"""The page of a run: it says what the tables say, needs nothing beside it, and believes nothing it is told."""

from __future__ import annotations

import base64
import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import synthetic_rows
import synthetic_run
from synthetic_rows import CANARIES, Truth, World

from unfooled import findings, gallery, located, records, report
from unfooled.findings import Findings
from unfooled.leaderboard import captions, multiverse, ranking, tables

EVIL = '<script>alert("x")</script>'
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; it complains of a tag that is not closed where it should be."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


WORLD = World(
    (
        Truth("simple_grad", "gradients", 0.8),
        Truth(EVIL, "gradients", 0.6),
        Truth("grad_cam", "activations", 0.4),
        *CANARIES,
    ),
    settings=(("vgg-0", "vgg"),),
    manipulations=("location",),
    against=("gradients", "activations"),
    images=24,
    polarities=("absolute", "signed"),
)
FAILURES = [{"setting": "vgg-0", "interpreter": "broken", "reason": f"broken: raised ValueError: {EVIL}"}]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_run.write(tmp_path_factory.mktemp("run"), WORLD, limit=8, failures=FAILURES)


@pytest.fixture(scope="module")
def written(run):
    return report.write(run)


@pytest.fixture(scope="module")
def page(written):
    return Page(written.path.read_text(encoding="utf-8"))


def test_files_are_where_the_command_says(run, written):
    assert written.path == run.folder / "report.html"
    assert {p.parent for p in written.figures} == {run.folder / "figures"}
    assert {p.suffix for p in written.figures} == {".png", ".svg"}
    assert all(p.stat().st_size > 500 for p in written.figures)
    assert not list(run.folder.rglob(".part-*"))


def test_the_page_needs_nothing_from_anywhere(written, page):
    outside = [
        (tag, name, value)
        for tag, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "srcset", "action", "data") and not value.startswith(("#", "data:"))
    ]
    assert outside == []
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed"} == set()
    text = written.path.read_text(encoding="utf-8")
    assert re.findall(r"url\((?![\"']?(?:#|data:)).{0,80}", text) == []
    assert "@import" not in text
    addresses = set(re.findall(r"https?://[^\"'\s<)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_ids_are_used_once_and_links_lead_to_them(page):
    ids = Counter(a["id"] for _, a in page.tags if "id" in a)
    assert [i for i, n in ids.items() if n > 1] == []
    links = {a["href"][1:] for t, a in page.tags if t == "a" and a["href"].startswith("#")}
    links |= {a["xlink:href"][1:] for _, a in page.tags if "xlink:href" in a and a["xlink:href"].startswith("#")}
    assert links - set(ids) == set()


def test_what_the_user_named_is_never_markup(written, page):
    assert EVIL not in written.path.read_text(encoding="utf-8")
    assert EVIL in page.words


def test_a_limited_run_says_so_and_failures_give_their_reason(page):
    assert "limited: not to be submitted" in page.words
    assert "broken in vgg-0: broken: raised ValueError" in page.words.replace(" : ", ": ")


def test_the_table_is_the_table(run, page):
    expected = ranking.scores(run.rows, run.header)
    for word in tables.shown(expected).to_numpy().ravel():
        assert word in page.words
    csv = next(a["href"] for t, a in page.tags if t == "a" and "download" in a)
    assert base64.b64decode(csv.split(",")[1]).decode() == tables.as_csv(expected)


def test_the_legend_gives_the_range_of_every_column_as_the_text_does(run, page):
    for line in captions.legend(ranking.scores(run.rows, run.header)):
        assert line.partition(": ")[2] in page.words
    assert "where its own family was attacked (any)" in page.words


def test_the_ranks_under_every_choice_stand_below_their_figure(run, page):
    ranges = multiverse.rank_ranges(Findings(run).ranks)
    below = page.words.partition("Best, median and worst rank of every interpreter")[2]
    assert tables.caption(ranges) in below
    assert " ".join(" ".join(row) for row in tables.shown(ranges).to_numpy()) in below


def test_absent_figures_say_why(page):
    assert "No critical difference figure: it needs 3 settings or more, and this run has 1" in page.words


def test_certificates_hold_what_the_header_holds(run):
    table = report.certificates(Findings(run))
    shown = dict(zip(table.headings, table.rows[0], strict=True))
    certificate = run.header["cells"]["location:gradients"]["certificates"]["vgg-0"]
    assert shown["status"] == certificate["status"] == "fooled"
    assert shown["weight"] == "5"
    assert float(shown["corrected ↑"]) == pytest.approx(certificate["rates"]["corrected"], abs=5e-4)
    assert (shown["‖w − w0‖"], shown["‖w − w0‖ honest"]) == ("2.250", "1.500")
    assert (shown["accuracy before"], shown["accuracy fooled"]) == ("0.990", "0.985")
    rates = certificate["rates"]
    assert float(shown["on kept ↑"]) == pytest.approx(rates["on_kept"], abs=5e-4)
    assert float(shown["not silent ↑"]) == pytest.approx(rates["not_silent"], abs=5e-4)
    by_hand = (float(shown["not silent ↑"]) - float(shown["null"])) / (1 - float(shown["null"]))
    assert float(shown["corrected ↑"]) == pytest.approx(by_hand, abs=2e-3)
    assert set(table.headings) == set(table.meanings)


def test_one_setting_far_below_chance_does_not_outweigh_the_others(run):
    def about(corrected: float, status: str) -> dict:
        return {"status": status, "transfer": {"lrp": {"corrected": corrected}}, "rates": {}}

    cells = {"centre_mass:lrp": {"certificates": {"a": about(-7.5, "resisted"), "b": about(0.9, "fooled")}}}
    found = Findings(records.Run(run.rows, {"settings": {"a": {}, "b": {}}, "cells": cells}, run.folder))
    assert found.transfer.loc["centre_mass:lrp", "lrp"] == pytest.approx(0.45)
    assert found.fooled == {"centre_mass:lrp": (1, 2)}


LOCATED = {
    "vgg-0/grad_cam": {
        "original/": {"mass": 0.4, "pointing": 0.9}, "honest/": {"mass": 0.5, "pointing": 0.8},
        "fooled/x": {"mass": 0.1, "pointing": 0.2}, "fooled/y": {"mass": 0.3, "pointing": 0.4},
        "randomised/": {"mass": 0.125, "pointing": 0.25}, "self/": {"mass": 0.4, "pointing": 0.9},
    },
    "vgg-0/simple_grad": {},
    "vgg-0/noise": {"original/": {"mass": 0.081, "pointing": 0.152}},
}  # fmt: skip


def test_localisation_is_the_mean_over_cells_then_settings():
    twice = {key.replace("vgg-0", "a/b"): twins for key, twins in LOCATED.items()}
    twice["a/b/grad_cam"] = {**LOCATED["vgg-0/grad_cam"], "fooled/x": {"mass": 0.5, "pointing": 0.6}}
    header = {"settings": {"vgg-0": {}, "a/b": {}}, "localisation": {**LOCATED, **twice}}
    frame = located.table(header, ["simple_grad", "grad_cam"])
    assert list(frame["interpreter"]) == ["grad_cam"]
    found = frame.iloc[0]
    assert (found["mass_fooled"], found["pointing_fooled"]) == (pytest.approx(0.3), pytest.approx(0.4))
    assert (found["mass_original"], found["mass_honest"], found["mass_randomised"]) == (0.4, 0.5, 0.125)


def test_the_page_says_whether_maps_lie_on_the_object_and_what_chance_is(run, page, tmp_path):
    assert "lie on the object" not in page.words
    labels = {"noise": {**run.header["interpreters"]["sobel"], "use": "random_map"}}
    header = {**run.header, "localisation": LOCATED, "interpreters": {**run.header["interpreters"], **labels}}
    rows = run.rows.assign(interpreter=run.rows["interpreter"].cat.rename_categories({"sobel": "noise"}))
    made = records.Run(rows, header, tmp_path)
    table = report.localisation(Findings(made))
    shown = {row[0]: dict(zip(table.headings, row, strict=True)) for row in table.rows}
    assert list(shown) == ["grad_cam", "noise"]
    assert (shown["grad_cam"]["mass fooled"], shown["grad_cam"]["pointing randomised"]) == ("0.200", "0.250")
    assert table.caption == "Chance, which is what random_map's noise reaches: mass 0.081, pointing 0.152."
    assert set(table.headings) == set(table.meanings)
    records.save(made)
    words = Page(report.write(records.load(tmp_path)).path.read_text(encoding="utf-8")).words
    assert "Do the maps lie on the object?" in words
    assert table.caption in words


def test_the_eye_and_the_words_agree_on_who_was_fooled(run):
    (shelf, *_) = gallery.shelves(run, ["grad_cam", "simple_grad", "sobel", "constant"])
    column = [c.cell for c in shelf.columns].index("location:activations")
    tiles = {label: row[column] for label, row in shelf.rows.items()}
    assert (tiles["grad_cam"].verdict, tiles["grad_cam"].aimed) == ("moved", "at it")
    assert (tiles["simple_grad"].verdict, tiles["simple_grad"].aimed) == ("kept", "")
    assert tiles["sobel"].verdict == "blind"
    assert shelf.shows == "a"
    assert shelf.columns[column].status == "fooled"
    border = shelf.columns[column].pattern
    assert border[0].all()
    assert not border[1:-1, 1:-1].any()


def test_a_tile_shows_the_similarity_of_its_own_image(run):
    shelf = gallery.shelves(run, ["simple_grad"])[1]
    r = run.rows
    mine = (r["interpreter"] == "simple_grad") & (r["image"] == 1) & (r["metric"] == "spearman")
    mine &= (r["polarity"] == "absolute") & (r["cell"] == "location:gradients")
    expected = float(r.loc[mine, "value"].item())
    column = [c.cell for c in shelf.columns].index("location:gradients")
    assert shelf.number == 1
    assert shelf.rows["simple_grad"][column].similarity == pytest.approx(expected)


def test_active_fooling_is_shown_on_images_of_two_objects(tmp_path):
    truths = (Truth("grad_cam", "activations", 0.9, 0.05), Truth("simple_grad", "gradients", 0.9, 0.05))
    world = World(truths, settings=(("a", "a"), ("b", "b")), manipulations=("location",), active=True, images=8)
    made = synthetic_run.write(tmp_path, world)
    shelves = gallery.shelves(made, ["grad_cam", "simple_grad"])
    assert [(s.setting, s.split) for s in shelves] == [
        ("a", "test"), ("a", "test"), ("a", "test"), ("a", "pairs"),
        ("b", "test"), ("b", "test"), ("b", "test"), ("b", "pairs"),
    ]  # fmt: skip
    shelf = shelves[3]
    assert (shelf.picture, shelf.shows) == ("image 1 of two objects", "b")
    column = [c.cell for c in shelf.columns].index("active:activations")
    assert {c.cell.partition(":")[0] for c in shelf.columns} == {"", "active"}
    assert {c.cell.partition(":")[0] for c in shelves[0].columns} == {"", "location"}
    tile = shelf.rows["grad_cam"][column]
    assert (tile.verdict, tile.aimed) == ("moved", "at it")
    assert shelf.rows["simple_grad"][column].verdict == "kept"
    r = made.rows
    mine = (r["setting"] == "a") & (r["split"] == "pairs") & (r["interpreter"] == "grad_cam") & (r["image"] == 0)
    mine &= (r["metric"] == "spearman") & (r["polarity"] == "absolute") & (r["cell"] == "active:activations")
    assert tile.similarity == pytest.approx(float(r.loc[mine, "value"].item()))
    names = [path.name for path in report.write(made).figures if path.name.startswith("gallery")]
    assert names == ["gallery-a.png", "gallery-a-pairs.png", "gallery-b.png", "gallery-b-pairs.png"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "a, image 1 of two objects: explained is the class “b”" in page


def test_a_kin_of_the_attacked_is_told_so(run):
    shelf = gallery.shelves(run, [EVIL])[0]
    column = [c.cell for c in shelf.columns].index("location:gradients")
    assert shelf.rows[EVIL][column].aimed == "at its family"


def test_the_same_run_gives_the_same_page(run, written):
    before = {p: p.read_bytes() for p in (written.path, *written.figures)}
    again = report.write(run)
    assert {p: p.read_bytes() for p in (again.path, *again.figures)} == before


def test_a_bare_run_still_has_a_report(tmp_path):
    world = World((Truth("lonely", "gradients", 0.5),), settings=(("a", "a"), ("b", "b"), ("c", "c")), images=8)
    made = records.Run(synthetic_rows.rows(world), synthetic_rows.header(world), tmp_path)
    records.save(made)
    words = Page(report.write(records.load(tmp_path)).path.read_text(encoding="utf-8")).words
    assert "lonely is the only one ranked" in words
    assert "holds no maps" in words
    assert "holds no certificates" in words
    assert "No aopc figure" in words
    assert "fewer than three interpreters are ranked" in words


def table(*rows: tuple) -> pd.DataFrame:
    """(interpreter, rank, tie, transfer, attacked, canary, reason)"""
    names = ["interpreter", "rank", "tie", "transfer", "attacked", "canary", "reason"]
    frame = pd.DataFrame(rows, columns=names)
    for name in ("transfer", "attacked"):
        frame[f"{name}_low"], frame[f"{name}_high"] = frame[name] - 0.1, frame[name] + 0.1
    return frame


def test_sentences_name_who_leads_and_who_is_tied():
    frame = table(
        ("a", 1, "x", 0.9, 0.1, False, ""),
        ("b", 2, "xy", 0.8, -0.3, False, ""),
        ("c", 3, "y", 0.7, np.nan, False, ""),
    )
    assert findings._winners(frame) == [
        "a stays most stable when another family is attacked: 0.90 (95 % interval 0.80 to 1.00), tied with b.",
        "c is the least stable: 0.70 (95 % interval 0.60 to 0.80).",
    ]
    assert findings._attacked(frame) == "Attacked head-on, b falls lowest: −0.30 (95 % interval −0.40 to −0.20)."


def test_sentences_crown_nobody_where_nothing_was_found():
    frame = table(("a", 1, "x", 0.9, 0.1, False, ""), ("b", 2, "x", 0.8, 0.1, False, ""))
    assert findings._winners(frame)[0].endswith("but none of the 2 ranked interpreters could be told from it.")
    assert findings._winners(frame.iloc[:0]) == ["No interpreter could be ranked."]


def test_sentences_tell_insensitive_from_canary():
    nothing = np.nan, "", np.nan, np.nan
    frame = table(("a", *nothing, False, "insensitive: 1 of 6"), ("edge", *nothing, True, "insensitive: 0 of 6"))
    assert findings._blind(frame) == (
        "Not ranked: a (insensitive). 1 canary, which never look at the model: all found out."
    )


def test_resisted_cells_are_counted():
    frame = pd.DataFrame({"setting": ["s", "s", "t"], "status": ["fooled", "resisted", "fooled"]})
    said = "Of 3 attempts to fool in 2 settings, 2 fooled the interpreter that they were aimed at; 1 was resisted."
    assert findings._cells(frame) == said
    assert findings._cells(frame.iloc[::2]) == (
        "Every attempt to fool in 2 settings (2) fooled the interpreter that it was aimed at."
    )


def test_a_canary_among_the_ranked_is_a_warning(tmp_path):
    cheat = Truth("cheat", "canary", 0.9)
    world = World((Truth("real", "gradients", 0.3), cheat), settings=(("a", "a"),), images=16)
    found = Findings(records.Run(synthetic_rows.rows(world), synthetic_rows.header(world), tmp_path))
    assert any(w.startswith("broken suite: cheat") for w in found.warnings)


@pytest.mark.parametrize("truths", [CANARIES, (Truth("low", "gradients", 0.5, at="T"),)], ids=["canaries", "only at T"])
def test_a_run_that_ranks_nobody_has_a_report(tmp_path, truths):
    made = synthetic_run.write(tmp_path, World(truths, settings=(("a", "a"),), images=8), gallery=False)
    words = Page(report.write(made).path.read_text(encoding="utf-8")).words
    assert "No interpreter could be ranked." in words
