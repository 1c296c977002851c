"""Figures: their small algorithms against the definitions by brute force, every drawing against hostile labels."""

from __future__ import annotations

import ast
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
import synthetic_rows
import synthetic_run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.optimize import isotonic_regression

from unfooled import figures, gallery, report
from unfooled.findings import Findings
from unfooled.plots import fooling, ranks, scores, style
from unfooled.plots import gallery as pictures

HOSTILE = '<b>$x_1^</b>&"\n\x1b[31m地図(' + "n" * 60 + ")"
"""markup, mathematics, control characters, another script and too much of it"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    truths = (*synthetic_rows.REAL[:3], synthetic_rows.Truth(HOSTILE, "other", 0.4), *synthetic_rows.CANARIES)
    world = synthetic_rows.World(
        truths, settings=(("a-0", "a"), ("b-0", "b"), ("../c$", "c")), manipulations=("location",), images=12
    )
    return synthetic_run.write(tmp_path_factory.mktemp("run"), world)


@pytest.fixture(scope="module")
def drawn(run):
    return {d.name: d for d in figures.drawings(Findings(run))}


def test_every_figure_is_drawn_or_says_why_not(drawn):
    names = ["stability", "sensitivity", "cells", "transfer", "aopc", "cost", "specifications", "critical-difference"]
    assert list(drawn) == names
    assert all((d.figure is None) == bool(d.absent) for d in drawn.values())
    assert not any(d.absent for d in drawn.values())


def test_file_names_are_safe(run):
    """A setting of this run is called ``../c$``."""
    names = [path.name for path in report.write(run).figures]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+\.(png|svg)", name) for name in names)
    assert [n for n in names if n.startswith("gallery")] == [
        "gallery-a-0.png", "gallery-b-0.png", "gallery-___c_.png"
    ]  # fmt: skip


def test_a_shelf_shows_each_map_at_its_place_and_frames_what_moved(run):
    shelf = gallery.shelves(run, list(run.header["interpreters"]))[0]
    picture = np.asarray(pictures.shelf_picture(shelf))
    rows, columns = len(shelf.rows), 1 + len(shelf.columns)
    assert rows > 5
    framed = 0
    for at, tiles in enumerate(shelf.rows.values()):
        for column, tile in enumerate(tiles, 1):
            left, top = round((2.3 + column) * pictures.UNIT), round((1.45 + 1.27 * at) * pictures.UNIT)
            drawn = picture[top:, left:][: round(0.9 * pictures.UNIT), : round(0.9 * pictures.UNIT)]
            side = len(tile.map)
            centres = ((np.arange(side) + 0.5) * len(drawn) / side).astype(int)
            wanted = pictures.palette()[pictures.levels(tile.map)]
            assert (drawn[np.ix_(centres, centres)] == wanted).all()
            edge = picture[top - 3, left + 20 : left + 90]
            moved = tile.verdict == "moved"
            assert (edge == (0x56, 0xB4, 0xE9)).all() == moved
            framed += moved
    assert 0 < framed < rows * columns
    decoded = np.asarray(Image.open(io.BytesIO(pictures.png(pictures.shelf_picture(shelf)))))
    assert (decoded == picture).all()


@pytest.mark.parametrize("name", ["stability", "sensitivity", "cost", "specifications", "critical-difference"])
def test_hostile_labels_stay_text_in_every_form(drawn, name):
    text = style.svg(drawn[name].figure)
    words = " ".join(ElementTree.fromstring(text).itertext())
    assert "<b>$x_1^" in words.replace("\n", " ")
    inlined = style.inline(text, name, 'a <b> "title"')
    ElementTree.fromstring(inlined)
    assert "<b>" not in inlined
    assert style.INK not in inlined
    picture = Image.open(io.BytesIO(style.png(drawn[name].figure)))
    assert picture.width == pytest.approx(style.WIDTH * 160, abs=1)


def test_drawing_leaves_matplotlib_as_it_was(drawn):
    before = dict(matplotlib.rcParams)
    style.png(drawn["cost"].figure)
    assert dict(matplotlib.rcParams) == before


def test_matplotlib_is_imported_late_and_pyplot_never():
    folder = Path(__file__).parents[1] / "benchmark"
    for path in (folder / "plots").glob("*.py"):
        assert "pyplot" not in path.read_text()
    for name in ("report", "figures", "findings", "gallery"):
        body = ast.parse((folder / f"{name}.py").read_text()).body
        top = [n.module or "" for n in body if isinstance(n, ast.ImportFrom)]
        top += [a.name for n in body if isinstance(n, ast.Import) for a in n.names]
        assert not [m for m in top if m.startswith(("matplotlib", "jinja2", "PIL", "unfooled.plots"))]


def test_figures_are_the_same_each_time(drawn):
    figure = drawn["transfer"].figure
    assert style.svg(figure) == style.svg(figure)
    assert style.png(figure) == style.png(figure)


positions = st.lists(st.floats(-5, 5), min_size=1, max_size=20)


@given(positions, st.floats(0.01, 3))
def test_labels_are_moved_apart_in_order_and_stay_inside(values, gap):
    values = np.array(values)
    moved = style.apart(values, gap, -6, 6)
    order = np.argsort(values, kind="stable")
    least = min(gap, 12 / max(len(values) - 1, 1))
    assert (np.diff(moved[order]) >= least - 1e-9).all()
    assert moved.min() >= -6 - 1e-9
    assert moved.max() <= 6 + 1e-9


@settings(deadline=None)
@given(positions, st.floats(0.01, 0.5))
def test_labels_move_as_little_as_least_squares_allows(values, gap):
    # Without a border, the nearest ordered positions a gap apart are an isotonic regression of what the gap leaves.
    values = np.sort(np.array(values))
    steps = gap * np.arange(len(values))
    expected = isotonic_regression(values - steps).x + steps
    assert style.apart(values, gap, -1e3, 1e3) == pytest.approx(expected, abs=1e-9)


points = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5)), min_size=1, max_size=12)


@given(points)
def test_the_front_is_what_nothing_beats(found):
    x, y = np.array(found, float).T
    beaten = [
        any((x[j] <= x[i] and y[j] > y[i]) or (x[j] < x[i] and y[j] >= y[i]) for j in range(len(x)))
        for i in range(len(x))
    ]
    kept = scores.front(x, y)
    assert {(x[i], y[i]) for i in kept} == {(x[i], y[i]) for i in range(len(x)) if not beaten[i]}


@given(st.lists(st.floats(1, 10), min_size=1, max_size=10), st.floats(0, 5))
def test_bars_join_exactly_the_pairs_within_the_difference(found, difference):
    mean = np.sort(np.array(found))
    bars = ranks.cliques(mean, difference)
    joined = {(i, j) for a, b in bars for i in range(a, b + 1) for j in range(i + 1, b + 1)}
    near = {(i, j) for i in range(len(mean)) for j in range(i + 1, len(mean)) if mean[j] <= mean[i] + difference}
    assert joined == near
    assert not any(a <= c and d <= b for a, b in bars for c, d in bars if (a, b) != (c, d))


def test_variants_are_told_apart_by_commas_outside_of_brackets():
    assert ranks._separate("ssim(sigma=1, window=7), top_k(fraction=0.05)") == [
        "ssim(sigma=1, window=7)",
        "top_k(fraction=0.05)",
    ]
    assert ranks._separate("") == []


@settings(max_examples=25)
@given(st.text(max_size=60), st.integers(4, 40))
def test_short_labels_fit_and_hold_nothing_that_breaks_a_line(label, most):
    cut = style.short(label, most)
    assert len(cut) <= most
    assert cut.isprintable()


def test_lightness_of_both_colour_maps_rises_evenly():
    # CIE L* of linear luminance: a print in grey keeps the order of the values.
    for colours in (pictures.palette() / 255, matplotlib.colormaps[style.SEQUENTIAL](np.linspace(0, 1, 64))[:, :3]):
        linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
        lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16
        assert (np.diff(lightness[2:]) > 0).all()


def test_tiles_hold_the_map_on_its_own_scale():
    values = np.array([[0.0, 5.0], [2.5, np.nan]], np.float32)
    assert pictures.levels(values).tolist() == [[0, 63], [32, 0]]
    import base64

    decoded = base64.b64decode(pictures.map_uri(values).split(",")[1])
    pixels = np.array(Image.open(io.BytesIO(decoded)).convert("RGB"))
    assert (pixels == pictures.palette()[pictures.levels(values)]).all()


def test_large_pictures_are_made_small():
    import base64

    decoded = base64.b64decode(pictures.map_uri(np.random.default_rng(0).random((224, 224))).split(",")[1])
    assert Image.open(io.BytesIO(decoded)).size == (96, 96)


def test_the_cell_that_was_aimed_at_is_framed():
    rates = pd.DataFrame([[0.9, np.nan]], index=["location:a"], columns=["a", "b"])
    with style.styled():
        axes = fooling.transfer_matrix(rates, {"location:a": "a"}, {"location:a": (3, 9)}).axes[0]
    assert len(axes.patches) == 1
    assert axes.patches[0].get_x() == pytest.approx(0.06)
    assert [t.get_text() for t in axes.texts] == [".90", "–"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["location:a   3 of 9"]


@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_a_frame_is_seen_in_grey_on_any_value(value):
    rates = pd.DataFrame([[value]], index=["c"], columns=["a"])
    with style.styled():
        framed, plain = (fooling.transfer_matrix(rates, aimed, {"c": (1, 1)}) for aimed in ({"c": "a"}, {}))
    grey = [np.asarray(Image.open(io.BytesIO(style.png(f))).convert("L"), int) for f in (framed, plain)]
    there = np.abs(grey[0] - grey[1]) > 60  # steps of grey between the line and the colour that it lies on
    assert there.sum() > 500


def test_every_column_of_panels_ends_with_a_labelled_axis():
    curves = {f"cell {n}": {"original/random": [0.5, 0.7]} for n in range(5)}
    with style.styled():
        panels = fooling.aopc(curves).axes[:6]
    assert [bool(axes.get_xlabel()) for axes in panels] == [False, False, False, True, True, False]
    shown = [axes.xaxis.get_tick_params()["labelbottom"] for axes in panels[:5]]
    assert shown == [False, False, False, True, True]


def test_colours_of_grids_have_a_scale(drawn):
    said = {name: [a.get_ylabel() for a in drawn[name].figure.axes] for name in ("cells", "transfer", "specifications")}
    assert "stability" in said["cells"]
    assert "corrected fooling rate" in said["transfer"]
    assert "rank" in said["specifications"]


def crossing(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> bool:
    """Do the segments from a to b and from c to d cross at a point that is an end of neither?"""

    def side(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < -1e-12 and side(c, d, a) * side(c, d, b) < -1e-12


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=15))
def test_no_two_leader_lines_cross(found):
    x, y = np.array(found).T
    slots = style.apart(y, 0.05, 0, 1)
    own = style.assigned(x, y, 1.02, slots)
    assert sorted(own) == list(range(len(found)))
    lines = [(np.array(p), np.array([1.02, slots[k]])) for p, k in zip(found, own, strict=True)]
    assert not any(crossing(*lines[i], *lines[j]) for i in range(len(lines)) for j in range(i))


def test_the_crossing_that_lines_in_order_of_height_make_is_seen():
    low, high = (np.array([0.9, 0.5]), np.array([1.0, 0.1])), (np.array([0.1, 0.45]), np.array([1.0, 0.0]))
    assert not crossing(*low, *high)
    assert crossing(low[0], high[1], high[0], low[1])


def test_captions_say_who_has_no_mark_and_why(run):
    found = Findings(run)
    silent = found.table["interpreter"] == "constant"
    found.table.loc[silent, ["raw_fooled", "raw_randomised"]] = np.nan
    captions = {d.name: d.caption for d in figures.drawings(found)}
    assert captions["sensitivity"].endswith(
        "Without a mark, as they have no similarities, their maps being silent: constant."
    )
    assert captions["cost"].endswith("as they have no score or never ask the network: constant, sobel.")


def test_the_similarity_that_is_drawn_is_called_what_it_is(drawn):
    assert drawn["sensitivity"].figure.axes[0].get_ylabel() == "similarity to the map of the fooled model"


def test_prices_are_drawn_beside_the_names_and_the_unbeaten_ringed():
    table = pd.DataFrame(
        [("dear", 0.9, 9, 1, 8.0), ("cheap", 0.5, 1, 1, 2.0), ("beaten", 0.4, 1, 1, 4.0), ("small", 0.3, 2, 1, 1.0),
         ("blind", np.nan, 1, 1, 1.0), ("never asks", 0.2, 0, 0, 0.0)],
        columns=["interpreter", "transfer", "forward", "backward", "memory"],
    )  # fmt: skip
    table.loc[len(table)] = ("a canary with a score", 1.0, 1, 0, 0.1)
    reasons = ["prediction alone" if "canary" in name else "" for name in table["interpreter"]]
    table = table.assign(
        family="gradients", transfer_low=table["transfer"], transfer_high=table["transfer"], reason=reasons
    )
    with style.styled():
        stable, passes, memory = scores.pareto(table[::-1]).axes
    assert [t.get_text() for t in stable.get_yticklabels()] == ["dear", "cheap", "beaten", "small"]
    rings = {a: next(line for line in a.lines if line.get_label() == "unbeaten") for a in (passes, memory)}
    assert sorted(zip(*rings[passes].get_data(), strict=True)) == [(2, 2), (10, 3)]
    assert sorted(zip(*rings[memory].get_data(), strict=True)) == [(1, 0), (2, 2), (8, 3)]
    style.png(stable.figure)
    low, high = memory.get_xlim()
    inside = [at for at in memory.get_xticks() if low <= at <= high]
    assert inside == pytest.approx([1, 2, 5, 10]), "a scale of one decade needs more than one number"


@pytest.mark.parametrize(
    ("label", "lines"),
    [
        ("beta_smoothing(of=simple_grad)", ["beta_smoothing(", "of=simple_grad)"]),
        ("active(first=1, second=5)", ["active(first=1,", "second=5)"]),
        ("grad_cam", ["grad_cam"]),
        ("n" * 24, ["n" * 16, "n" * 8]),
        ("n" * 40, ["n" * 16, "…" + "n" * 15]),
    ],
)
def test_names_are_wrapped_where_they_can_be_read(label, lines):
    assert style.wrapped(label, 16).split("\n") == lines


@settings(max_examples=50)
@given(st.text(alphabet="ab(,:_ =)\n", max_size=70), st.integers(4, 24))
def test_wrapped_names_fit_and_lose_nothing_that_fits(label, width):
    lines = style.wrapped(label, width).split("\n")
    assert len(lines) <= 2
    assert max(map(len, lines)) <= width
    if len(label) <= 2 * width:
        assert "".join(lines).replace(" ", "") == style.one_line(label).replace(" ", "")


def test_long_names_stand_whole_and_apart_in_a_diagram_of_ranks():
    names = [f"integrated_gradients(steps={n}, baseline=black)" for n in (16, 32, 64)]
    with style.styled():
        figure = ranks.critical_difference(names, np.array([1.0, 2.0, 3.0]), 0.5)
    said = [t.get_text().replace("\n", " ") for t in figure.axes[0].texts]
    assert all(any(name in words for words in said) for name in names)
    style.png(figure)
    boxes = [t.get_window_extent() for t in figure.axes[0].texts if "steps" in t.get_text()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_numbers_keep_their_sign_and_size():
    rates = pd.DataFrame([[-0.123, 10.02, 1.0, -0.001]], index=["c"], columns=list("abcd"))
    with style.styled():
        axes = fooling.transfer_matrix(rates, {}, {"c": (0, 1)}).axes[0]
    assert [t.get_text() for t in axes.texts] == ["−.12", "10.02", "1.00", ".00"]


def test_deletion_curves_are_named_in_words_and_drawn_as_they_are():
    curves = {"fooled/original map": [1.0, 2.0], "original/random": [0.5, 0.7], "original/fooled map": [0.1, 0.2]}
    with style.styled():
        axes = fooling.aopc({"cell": curves}).axes[0]
    drawn = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    assert drawn == {
        "original network, in random order": [0.5, 0.7],
        "original network, by the fooled map": [0.1, 0.2],
        "fooled network, by the original map": [1.0, 2.0],
    }
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(looks) == 3
