"""One interpreter asked about all twins: the same stream for all, answers checked, rows that numpy finds too."""

import tracemalloc
from dataclasses import dataclass, field, replace

import mischief
import numpy as np
import pytest
import torch
from scipy import stats

from unfooled import asking, building, plugins, records, runner
from unfooled.asking import BrokenAnswer, Interview, Question, questions
from unfooled.building import Images
from unfooled.maps import WANTED
from unfooled.sentinel import TouchedModel
from unfooled.types import Part, Twin


@pytest.fixture(scope="module")
def setting(tiny):
    return tiny.suite.settings()[0]


@pytest.fixture(scope="module")
def asked(tiny, setting):
    """The setting's chosen images of both splits, and its twins."""
    store = runner.open_store(tiny.options(), tiny.suite)
    splits = building.images(setting, store)
    return splits, building.load_twins(setting, store, splits[0])


def interview(setting, interpreter, metrics=("spearman", "mse"), label="mine"):
    built = {m: plugins.build("metrics", Part(m)) for m in metrics}
    return Interview(label, interpreter, built, setting, classes=10)


@dataclass(frozen=True)
class Watching:
    """Answers with noise and notes what it was asked, and what the random stream gave."""

    seen: list = field(default_factory=list)

    def __call__(self, model, inputs, targets):
        noise = torch.rand(len(inputs), 8, 8)
        self.seen.append((id(model), inputs.clone(), targets.clone(), noise, np.random.rand()))
        return noise


def test_who_is_asked_on_which_split(asked):
    _, twins = asked
    pairs = {"active(images=32):simple_grad(at=T)"}
    test, both = (questions(twins, split, pairs) for split in ("test", "pairs"))
    assert [(q.twin, q.cell, q.draw) for q in test] == [
        ("original", "", 0), ("self", "", 0), ("wrong_class", "", 0), ("honest", "", 0),
        ("fooled", "location:grad_cam", 0), ("randomised", "", 0), ("randomised", "", 1), ("randomised_top", "", 0),
    ]  # fmt: skip
    assert [(q.twin, q.cell) for q in both if q.twin == "fooled"] == [("fooled", *pairs)]
    assert not {"self", "wrong_class"} & {q.twin for q in both}


def test_all_twins_are_asked_about_the_same_images_under_the_same_stream(setting, asked):
    splits, twins = asked
    watching = Watching()
    interview(setting, watching).rows(twins, splits[0])
    names = [q.twin for q in questions(twins, "test", set())]
    per_chunk = len(watching.seen) // 3  # 20 images in chunks of 8
    assert per_chunk * 3 == len(watching.seen)
    for number in range(3):
        chunk = watching.seen[number * per_chunk : (number + 1) * per_chunk]
        if number % 2:  # every other chunk begins with a random network; the original comes next, the others backwards
            chunk = [chunk[1], *chunk[:1:-1], chunk[0]]
        words = [q.twin for q in questions(twins, "test", {"active(images=32):simple_grad(at=T)"})]
        first = chunk[0]
        for word, (_, images, targets, noise, other) in zip(words, chunk, strict=True):
            assert torch.equal(images, splits[0].images[8 * number : 8 * number + 8])
            shift = 1 if word == "wrong_class" else 0
            assert torch.equal(targets, (splits[0].targets[8 * number : 8 * number + 8] + shift) % 10)
            assert (torch.equal(noise, first[3]) and other == first[4]) == (word != "self")
    chunks = [watching.seen[k * per_chunk][3] for k in (0, 2)]
    assert not torch.equal(chunks[0][: len(chunks[1])], chunks[1]), "chunks have streams of their own"
    assert names[0] == "original"


def test_rows_are_what_scipy_finds(setting, asked):
    splits, twins = asked
    found = interview(setting, mischief.counted).rows(twins, splits[0]).rows
    own, other = (mischief.counted(t.model, splits[0].images, splits[0].targets).numpy() for t in (twins[0], twins[2]))
    rows = found.query("twin == 'fooled' and polarity == 'absolute' and metric == 'spearman'").sort_values("image")
    assert rows["cell"].unique().tolist() == [twins[2].cell]
    wanted = [stats.spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(own, other, strict=True)]
    # float32 gradients drawn in chunks of 8 and of 20: a few pixels of 1024 may change places
    np.testing.assert_allclose(rows["value"], wanted, atol=1e-3)
    assert rows["image"].tolist() == list(range(20))


def test_a_silent_random_map_takes_the_null_and_any_other_is_missing(setting, asked):
    splits, twins = asked
    random_nets = {id(t.model) for t in twins if t.kind.startswith("randomised")}
    honest = next(id(t.model) for t in twins if t.kind == "honest")

    def sometimes(model, inputs, targets):
        maps = mischief.counted(model, inputs, targets)
        if id(model) in random_nets or id(model) == honest:
            maps = torch.zeros_like(maps)
        return maps

    rows = interview(setting, sometimes).rows(twins, splits[0]).rows.query("polarity == 'absolute'")
    random = rows[rows["twin"].str.startswith("randomised")]
    assert random["silent"].all()
    assert random["value"].notna().all()
    null = random.query("metric == 'spearman'")["value"]
    # of 1024 shuffled pixels: mean 0, deviation 1 / √1023 each; 20 images, four standard errors
    assert abs(null.groupby(random["image"]).first().mean()) < 4 / np.sqrt(1023 * 20)
    lost = rows[rows["twin"] == "honest"]
    assert lost["silent"].all()
    assert lost["value"].isna().all()
    assert not rows["silent_original"].any()


def test_an_image_whose_original_map_is_silent_is_missing_for_all(setting, asked):
    splits, twins = asked
    original = id(twins[0].model)

    def hides_one(model, inputs, targets):
        maps = mischief.counted(model, inputs, targets)
        if id(model) == original:
            maps[0] = 1.0
        return maps

    rows = interview(setting, hides_one).rows(twins, splits[0]).rows
    silent = rows[rows["silent_original"]]
    assert sorted(silent["image"].unique()) == [0, 8, 16]  # the first of every chunk
    assert silent["value"].isna().all()
    assert rows[~rows["silent_original"]]["value"].notna().all()


def test_maps_of_another_twin_that_are_not_finite_are_silent(setting, asked):
    splits, twins = asked
    honest = next(id(t.model) for t in twins if t.kind == "honest")

    def breaks(model, inputs, targets):
        maps = mischief.counted(model, inputs, targets)
        return maps * float("nan") if id(model) == honest else maps

    rows = interview(setting, breaks).rows(twins, splits[0]).rows
    assert rows[rows["twin"] == "honest"]["silent"].all()
    assert not rows[rows["twin"] == "fooled"]["silent"].any()


@pytest.mark.parametrize(
    ("interpreter", "line"),
    [
        (mischief.wrong_shape, f"mine: answered (9, 4, 4) for 8 images of 3 × 32 × 32; {WANTED}"),
        (mischief.flat, f"mine: answered (8,) for 8 images of 3 × 32 × 32; {WANTED}"),
        (mischief.not_a_map, f"mine: answered with list; {WANTED}"),
        (
            mischief.channels_last,
            "mine: answered (8, 32, 32, 3) for 8 images of 3 × 32 × 32, and maps of 32 × 3 have another "
            "aspect than the images; move the channels to axis 1: (n, c, h, w)",
        ),
        (mischief.nan, "mine: 8 of 8 maps of the original hold NaN or infinity"),
    ],
)
def test_a_broken_answer_ends_in_one_line(setting, asked, interpreter, line):
    splits, twins = asked
    with pytest.raises(BrokenAnswer) as broken:
        interview(setting, interpreter).rows(twins, splits[0])
    assert str(broken.value) == line
    assert broken.value.exit_code == 3


@pytest.mark.parametrize(
    ("interpreter", "word"),
    [
        (mischief.touches_weights, "the values of"),
        (mischief.leaves_a_hook, "hooks on"),
        (mischief.writes_into_images, "the values of inputs"),
        (mischief.stays_in_training, "the training flag of"),
    ],
)
def test_whoever_touches_the_model_is_told_and_undone(setting, asked, interpreter, word):
    splits, twins = asked
    before = {k: v.clone() for k, v in twins[0].model.state_dict().items()}
    images = splits[0].images.clone()
    with pytest.raises(TouchedModel, match=f"^mine: changed {word}"):
        interview(setting, interpreter).rows(twins, splits[0])
    assert all(torch.equal(v, before[k]) for k, v in twins[0].model.state_dict().items())
    assert torch.equal(splits[0].images, images)
    assert not twins[0].model.training
    assert not twins[0].model._forward_hooks


def test_answers_may_be_arrays_of_any_resolution_and_channels(setting, asked):
    splits, twins = asked

    def array(model, inputs, targets):
        return np.random.default_rng(0).random((len(inputs), 2, 5, 5))

    rows = interview(setting, array).rows(twins, splits[0]).rows
    assert (rows.query("twin == 'honest' and metric == 'mse'")["value"] == 1).all()


def test_shown_maps_are_the_first_images_of_the_first_draws(setting, asked):
    splits, twins = asked
    answer = interview(setting, mischief.counted).rows(twins, splits[0])
    assert set(answer.shown) == {"original/", "honest/", "fooled/location:grad_cam", "randomised/"}
    two = interview(setting, mischief.counted).rows(twins, splits[1]).shown
    active = "pairs:fooled/active(images=32):simple_grad(at=T)"
    assert {name: len(some) for name, some in two.items()} == {
        "pairs:original/": 1, "pairs:honest/": 1, active: 1, "pairs:randomised/": 1
    }  # fmt: skip
    wanted = mischief.counted(twins[0].model, splits[0].images[:8], splits[0].targets[:8])[: asking.SHOWN["test"]]
    drawn = wanted / wanted.abs().amax((1, 2), keepdim=True)
    np.testing.assert_allclose(answer.shown["original/"], drawn.numpy(), rtol=2**-11, atol=2**-25)  # half precision


def test_a_map_that_cannot_be_drawn_is_shown_as_nothing():
    some = np.stack([np.full((2, 2), v, np.float32) for v in (0, np.nan, np.inf, -4)])
    assert asking._drawn(some)[:, 0, 0].tolist() == [0, 0, 0, -1]


def test_where_maps_lie_is_told_for_each_twin(setting, asked):
    splits, twins = asked

    def on_the_object(model, inputs, targets):
        """Knows the masks: on the object for the original, off it for the fooled."""
        index = [int((splits[0].images == x).flatten(1).all(1).nonzero()[0]) for x in inputs]
        masks = splits[0].masks[index].float()
        return masks if model is twins[0].model else 1 - masks

    answer = interview(setting, on_the_object).rows(twins, splits[0])
    assert answer.localisation["original/"] == {"mass": 1.0, "pointing": 1.0}
    assert answer.localisation["fooled/location:grad_cam"]["mass"] == 0.0
    assert interview(setting, mischief.counted).rows(twins, splits[1]).localisation == {}


def test_a_single_image_and_a_short_last_chunk(setting, asked):
    splits, twins = asked
    one = Images("test", splits[0].images[:1], splits[0].targets[:1], splits[0].masks[:1])
    rows = interview(setting, mischief.counted).rows(twins, one).rows
    assert rows["image"].unique().tolist() == [0]


def test_metrics_do_not_depend_on_each_other(setting, asked):
    """The same rows whether a metric is asked alone or among others."""
    splits, twins = asked
    alone = interview(setting, mischief.counted, ("mse",)).rows(twins, splits[0]).rows
    among = interview(setting, mischief.counted, ("spearman", "ssim", "mse")).rows(twins, splits[0]).rows
    np.testing.assert_array_equal(alone["value"], among[among["metric"] == "mse"]["value"])


def test_questions_need_an_original():
    model = torch.nn.Linear(1, 1)
    assert questions([Twin("original", model)], "pairs", set()) == [Question("original", model)]
    assert replace(Question("a", model), shift=2).shift == 2


def test_joining_keeps_every_word(setting, asked):
    splits, twins = asked
    answers = [interview(setting, mischief.counted, label=word).rows(twins, splits[0]).rows for word in ("b", "a")]
    both = records.joined(answers)
    assert len(both) == sum(len(a) for a in answers)
    assert both["interpreter"].cat.categories.tolist() == ["a", "b"]
    assert both["interpreter"].tolist() == ["b"] * len(answers[0]) + ["a"] * len(answers[1])


def test_memory_does_not_grow_with_the_number_of_twins(setting, asked):
    """Maps of 160 × 160 pixels, 8 at a time: one twin's take 1.6 MB in two polarities, 36 more would take 59 MB."""
    images = Images("test", torch.rand(16, 3, 160, 160), torch.zeros(16, dtype=torch.int64))
    model = asked[1][0].model

    def peak(cells):
        twins = [Twin("original", model), *(Twin("fooled", model, cell=f"cell {k}") for k in range(cells))]
        tracemalloc.start()
        rows = interview(setting, noise).rows(twins, images).rows
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert rows["cell"].nunique() == cells + 1  # and the controls, which are of no cell
        return found

    few, many = peak(4), peak(40)
    gallery = 36 * 3 * 160 * 160 * 2  # three maps a cell in half precision are part of the answer
    assert many - few < gallery + 2e6


def noise(model, inputs, targets):
    return np.random.default_rng(0).random((len(inputs), *inputs.shape[2:]), np.float32)
