"""Scenes: the same bits always, no pixel shared between splits, masks that are where the objects are."""

from __future__ import annotations

import re
import socket

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.draw import polygon2mask

from unfooled.datasets import backgrounds
from unfooled.datasets.contact_sheet import contact_sheet
from unfooled.datasets.rendering import CHUNK, object_coverage, render
from unfooled.datasets.scenes import Scenes
from unfooled.datasets.silhouettes import SILHOUETTES
from unfooled.seeding import numpy_generator
from unfooled.types import DataError

SPLITS = ("train", "tune", "test")


@pytest.fixture(scope="module")
def scenes():
    return Scenes(train=500, tune=250, test=300)()


@pytest.mark.parametrize("split", SPLITS)
def test_images_labels_and_masks_are_what_a_batch_promises(scenes, split):
    batch = getattr(scenes, split)
    count = {"train": 500, "tune": 250, "test": 300}[split]
    assert batch.images.shape == (count, 3, 32, 32)
    assert batch.images.dtype == torch.float32
    assert batch.images.min() >= 0
    assert batch.images.max() <= 1
    assert torch.equal((batch.images * 255).round() / 255, batch.images)  # whole 8-bit values
    assert batch.labels.dtype == torch.int64
    assert batch.masks.dtype == torch.bool
    assert batch.masks.shape == (count, 32, 32)


def test_every_ten_images_show_every_class(scenes):
    tens = scenes.train.labels.reshape(-1, 10)
    assert torch.equal(tens.sort(1).values, torch.arange(10).expand_as(tens))
    assert len(tens.unique(dim=0)) > len(tens) // 2  # and not always in the same order


@pytest.mark.parametrize(("train", "tune", "test"), [(0, 1, CHUNK), (CHUNK + 1, CHUNK, 300)])
def test_a_split_is_the_beginning_of_a_longer_one(scenes, train, tune, test):
    short = Scenes(train=train, tune=tune, test=test)()
    for split, count in zip(SPLITS, (train, tune, test), strict=True):
        few, many = getattr(short, split), getattr(scenes, split)
        assert len(few) == count
        for part in ("images", "labels", "masks"):
            assert torch.equal(getattr(few, part), getattr(many, part)[: len(few)])


def test_seeds_and_splits_differ(scenes):
    other = Scenes(seed=1, train=CHUNK, tune=0, test=0)()
    assert not torch.equal(other.train.images, scenes.train.images[:CHUNK])
    assert not torch.equal(scenes.train.labels[:CHUNK], scenes.tune.labels)


def test_nothing_is_downloaded(monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert len(Scenes(train=10, tune=10, test=10)().test) == 10


def test_no_split_shares_a_pixel_with_another():
    for side in (48, 96, 192):
        for name in backgrounds.PICTURES:
            height, width = backgrounds.picture(name).shape[:2]
            owners = np.zeros((height, width), int)
            for region in backgrounds.regions(name, height, width, side):
                owners[region.top : region.top + side, region.left : region.left + side] += 1
            assert owners.max() == 1


@pytest.mark.parametrize("size", [16, 32, 64])
def test_every_split_has_regions_of_several_pictures(size):
    for split in SPLITS:
        held = set()
        for name in backgrounds.PICTURES:
            shape = backgrounds.picture(name).shape[:2]
            held |= {r.picture for r in backgrounds.regions(name, *shape, 3 * size) if r.split == split}
        assert len(held) >= 6


@pytest.mark.parametrize("split", SPLITS)
def test_crops_stay_inside_the_regions_of_their_split(monkeypatch, split):
    """Pictures are replaced by their own coordinates, so that every pixel of a crop says where it came from."""
    shape = (300, 450)

    def coordinates(name):
        index = np.full(shape, backgrounds.PICTURES.index(name))
        return np.stack([*np.indices(shape), index], -1).astype(np.float32)

    monkeypatch.setattr(backgrounds, "picture", coordinates)
    cut = backgrounds.crops(backgrounds.bank(split, 32), np.random.default_rng(0), 400, 32)
    owner = np.full((len(backgrounds.PICTURES), *shape), "", object)
    for index, name in enumerate(backgrounds.PICTURES):
        for r in backgrounds.regions(name, *shape, 96):
            owner[index, r.top : r.top + r.side, r.left : r.left + r.side] = r.split
    # Averages over two pixels lie half a pixel between them; both have to be the split's.
    for rounded in (np.floor(cut), np.ceil(cut)):
        row, column, index = rounded.reshape(-1, 3).astype(int).T
        assert set(owner[index, row, column]) == {split}


def test_a_missing_picture_is_named(monkeypatch):
    monkeypatch.setattr(backgrounds, "PICTURES", ("atlantis",))
    message = "scenes: scikit-image came without its picture 'atlantis.png'; install its wheel, >= 0.22"
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        Scenes()()


def _lens(radius_a, radius_b, apart):
    """Area that two discs share."""
    a = np.arccos((apart**2 + radius_a**2 - radius_b**2) / (2 * apart * radius_a))
    b = np.arccos((apart**2 + radius_b**2 - radius_a**2) / (2 * apart * radius_b))
    return radius_a**2 * (a - np.sin(2 * a) / 2) + radius_b**2 * (b - np.sin(2 * b) / 2)


# The star is ten triangles between the centre, a tip (at 1) and a notch 36 degrees beside it. The heart is a square
# and two half discs. The arrow's head is an isosceles triangle that opens by 40 degrees to either side of its axis.
NOTCH = np.cos(np.radians(72)) / np.cos(np.radians(36))
HEAD = 0.2 + 0.5 / np.sin(np.radians(40)) - 0.02
AREAS = {
    "disc": np.pi * 0.9**2,
    "square": 1.4**2,
    "triangle": 3 * 3**0.5 / 4,
    "star": 10 * 0.5 * NOTCH * np.sin(np.radians(36)),
    "cross": 2 * 1.9 * 0.54 - 0.54**2,
    "ring": np.pi * (0.97**2 - 0.53**2),
    "crescent": np.pi * 0.98**2 - _lens(0.98, 0.8, 0.5),
    "heart": (2 * 0.56) ** 2 + np.pi * 0.56**2,
    "arrow": HEAD**2 * np.tan(np.radians(40)) + 0.44 * (0.95 + 0.02),
    "hourglass": 4 * (0.75 * 0.76**2 / 2 + 0.06 * 0.76),
}


def _grid(steps):
    centres = (np.arange(steps) + 0.5) / steps * 2.4 - 1.2
    return np.meshgrid(centres, centres)


@pytest.mark.parametrize("name", SILHOUETTES)
def test_a_silhouettes_area_is_its_closed_form(name):
    """Counted on 1200² points, 0.002 apart: an outline of length 10 misjudges well under 10 · 0.001 of about 1.2."""
    distance = SILHOUETTES[name](*_grid(1200))
    assert (distance < 0).mean() * 2.4**2 == pytest.approx(AREAS[name], rel=5e-3)


@pytest.mark.parametrize("name", SILHOUETTES)
def test_a_silhouette_fills_the_unit_disc_and_no_more(name):
    x, y = _grid(600)
    reach = np.hypot(x, y)[SILHOUETTES[name](x, y) < 0].max()
    assert 0.85 < reach <= 1.01


@pytest.mark.parametrize("name", SILHOUETTES)
def test_a_silhouette_is_a_distance(name):
    """It changes by no more than the way gone (1-Lipschitz), and by as much almost everywhere near the outline."""
    start, way = np.random.default_rng(0).uniform(-1.2, 1.2, (2, 2, 20_000))
    change = np.abs(SILHOUETTES[name](*(start + way)) - SILHOUETTES[name](*start))
    assert (change <= np.hypot(*way) + 1e-6).all()
    x, y = _grid(600)
    distance = SILHOUETTES[name](x, y)
    slope = np.hypot(*np.gradient(distance, 2.4 / 600))[np.abs(distance) < 0.05]
    assert (slope > 0.999).mean() > 0.8


def test_a_mask_lies_where_a_polygon_library_draws_it():
    """A turned triangle, off the middle, against scikit-image's polygon; they may differ where an edge passes."""
    size, x, y, radius, angle = 64, 24.3, 37.8, 15.0, 0.3
    cover = object_coverage(np.array([2]), np.array([[x, y, radius, angle]], np.float32), size)[0]
    corners = np.radians([90, 210, 330]) + angle
    # Rows grow downwards, and polygon2mask puts pixel centres at whole numbers.
    vertices = np.stack([y - radius * np.sin(corners) - 0.5, x + radius * np.cos(corners) - 0.5], 1)
    drawn = polygon2mask((size, size), vertices)
    crossed = (cover > 0) & (cover < 1)
    assert drawn.sum() > 250
    assert np.array_equal((cover > 0.5)[~crossed], drawn[~crossed])
    assert ((cover > 0.5) != drawn).sum() <= 3  # ties of pixel centres with an edge


@pytest.mark.parametrize("label", range(10))
def test_coverage_sums_to_the_area(label):
    """Anti-aliasing keeps the area up to corners, which it rounds; at a radius of 40 pixels that is under 1 %."""
    places = np.array([[48, 50, 40, 0.2]], np.float32)
    cover = object_coverage(np.array([label]), places, 96)
    assert cover.sum() == pytest.approx(list(AREAS.values())[label] * 40**2, rel=0.01)


def _two_renderings(first_labels, second_labels):
    places = np.tile(np.array([15, 17, 7, 0.1], np.float32), (CHUNK, 1, 1))
    regions = backgrounds.bank("test", 32)
    return [
        render(numpy_generator("x"), regions, np.full((CHUNK, 1), label), places, 32)
        for label in (first_labels, second_labels)
    ]


def test_outside_the_masks_the_image_does_not_know_the_class():
    (disc, disc_mask), (star, star_mask) = _two_renderings(0, 3)
    near = torch.from_numpy(disc_mask | star_mask).float()
    near = torch.nn.functional.max_pool2d(near, 3, 1, 1).bool().numpy()  # an outline softens the next pixel too
    outside = ~np.broadcast_to(near, disc.shape)
    assert np.array_equal(disc[outside], star[outside])
    inside_one = np.broadcast_to(disc_mask & ~star_mask, disc.shape)
    assert (disc != star)[inside_one].mean() > 0.9


def test_objects_vary_in_place_and_size(scenes):
    masks = scenes.train.masks.float()
    middle = torch.arange(32) + 0.5
    for axis in (1, 2):
        centre = (masks.sum(3 - axis) * middle).sum(1) / masks.sum((1, 2))
        assert centre.min() < 9
        assert centre.max() > 23
        assert centre.std() > 3
    extent = masks.amax(1).sum(1)
    assert extent.min() >= 7
    assert extent.max() <= 18
    assert extent.std() > 1.5


def test_colours_and_backgrounds_do_not_give_the_class_away():
    """Ridge regression on the pixels of 2,000 images stays near the 10 % of guessing; objects must be looked for."""
    data = Scenes(seed=7, train=2000, tune=0, test=500)()
    x, t = (b.images.flatten(1).double() for b in (data.train, data.test))
    x, t = x - x.mean(0), t - x.mean(0)
    kernel = x @ x.T
    weights = torch.linalg.solve(
        kernel + 100 * torch.eye(len(x)), torch.nn.functional.one_hot(data.train.labels).double() - 0.1
    )
    accuracy = ((t @ x.T @ weights).argmax(1) == data.test.labels).float().mean()
    assert accuracy < 0.3


@pytest.mark.parametrize(("first", "second", "split"), [(0, 3, "train"), (9, 4, "test")])
def test_pairs_show_both_classes_apart_on_either_side(scenes, first, second, split):
    pairs = scenes.pairs(first, second, split, 100)
    assert pairs.images.shape == (100, 3, 32, 32)
    assert torch.equal(pairs.labels, torch.tensor([[first, second]]).repeat(100, 1))
    assert pairs.masks.shape == (100, 2, 32, 32)
    assert pairs.masks.sum((2, 3)).min() > 15
    assert not pairs.masks.all(1).any()
    columns, rows = (pairs.masks.float().sum(axis) for axis in (2, 3))
    x, y = ((line * torch.arange(32)).sum(-1) / line.sum(-1) for line in (columns, rows))
    for place in (x, y):
        share = (place[:, 0] < place[:, 1]).float().mean()
        assert 0.3 < share < 0.7  # 100 fair draws: beyond four standard deviations


def test_pairs_of_the_same_words_are_the_same(scenes):
    few, many = scenes.pairs(1, 2, "tune", 7), scenes.pairs(1, 2, "tune", CHUNK + 5)
    assert torch.equal(few.images, many.images[:7])
    assert not torch.equal(few.images, scenes.pairs(2, 1, "tune", 7).images)


@settings(max_examples=3, deadline=None)
@given(st.integers(16, 64))
def test_any_size_is_drawn_in_proportion(size):
    data = Scenes(train=0, tune=0, test=40, size=size)()
    assert data.test.images.shape == (40, 3, size, size)
    share = data.test.masks.float().mean()
    assert 0.05 < share < 0.12
    assert len(data.train) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scenes(size=8), "scenes: size is 8; it must lie between 16 and 64"),
        (lambda: Scenes(tune=-1), "scenes: tune is -1; a count must be 0 or more"),
        (lambda: Scenes().pairs(0, 10, "test", 1), "scenes: no class 10 for pairs; labels go from 0 to 9"),
        (lambda: Scenes().pairs(4, 4, "test", 1), "scenes: pairs of class 4 with itself; the two classes must differ"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(make, message):
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        make()


def test_the_contact_sheet_is_a_picture(tmp_path):
    contact_sheet(tmp_path / "scenes.png", Scenes(train=0, tune=0, test=50))
    with Image.open(tmp_path / "scenes.png") as image:
        assert min(image.size) > 500
