"""What happens to maps before any metric, and which of them say nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unfooled.maps import finish, min_max, misfit, reduce_channels, resize, says_nothing

pytestmark = pytest.mark.filterwarnings("error")


def one_map(value: float, changed: float | None = None) -> np.ndarray:
    """One 4 x 4 map of one value, at one pixel another."""
    maps = np.full((1, 4, 4), value, np.float32)
    if changed is not None:
        maps[0, 2, 1] = changed
    return maps


@pytest.mark.parametrize(
    "maps",
    [
        one_map(0),
        one_map(-3.5),
        one_map(0, np.nan),
        one_map(1, np.inf),
        one_map(1, -np.inf),
        one_map(np.nan),
        one_map(np.inf),
        one_map(0, 9e-31),
        one_map(1e-40, -1e-40),
        one_map(0.1, np.nextafter(np.float32(0.1), np.float32(1))),
        one_map(1e6, 1e6 + 1),
        one_map(-1e6, -1e6 - 1),
        np.ones((1, 1, 1), np.float32),
    ],
)
def test_silent(maps):
    assert says_nothing(maps).tolist() == [True]


@pytest.mark.parametrize(
    "maps",
    [
        one_map(0, 1),
        one_map(0, -1),
        one_map(0, 2e-30),
        one_map(1, 1 + 2e-6),
        one_map(-1e6, -1e6 - 3),
        one_map(3e38, -3e38),  # a range beyond float32
        one_map(-1, 1),
    ],
)
def test_not_silent(maps):
    assert says_nothing(maps).tolist() == [False]


def test_silence_is_each_maps_own():
    maps = np.concatenate([one_map(0), one_map(0, 1), one_map(0, np.nan), one_map(2, 1)])
    silent = says_nothing(maps)
    assert silent.dtype == bool
    assert silent.tolist() == [True, False, True, False]
    assert says_nothing(maps[:0]).shape == (0,)


@given(
    hnp.arrays(np.float32, (3, 3, 4), elements=st.floats(-8, 8, width=16)),
    st.sampled_from([2.0**-60, 0.5, 1.0, 4.0, 2.0**60]),
)
def test_silence_does_not_depend_on_scale_or_sign(maps, scale):
    maps = np.where(np.abs(maps) < 1e-4, np.float32(0), maps)  # far enough from the absolute bound of 1e-30
    np.testing.assert_array_equal(says_nothing(np.float32(scale) * maps), says_nothing(maps))
    np.testing.assert_array_equal(says_nothing(-maps), says_nothing(maps))


def test_min_max_spans_zero_to_one():
    maps = np.array([[[-2, 0], [2, 6]], [[5, 5], [5, 5]]], np.float32)
    np.testing.assert_array_equal(min_max(maps), [[[0, 0.25], [0.5, 1]], [[0, 0], [0, 0]]])


def test_channels_are_summed_with_or_without_signs():
    raw = torch.tensor([[[[1.0, -2.0]], [[-3.0, -4.0]]]])
    assert reduce_channels(raw, "signed").tolist() == [[[-2, -6]]]
    assert reduce_channels(raw, "absolute").tolist() == [[[4, 6]]]
    assert reduce_channels(raw[:, 1], "absolute").tolist() == [[[3, 4]]]


def test_resize_down_is_the_mean_of_the_area():
    maps = torch.arange(32.0).reshape(2, 4, 4)
    expected = maps.reshape(2, 2, 2, 2, 2).mean((2, 4))
    torch.testing.assert_close(resize(maps, (2, 2)), expected)


def test_resize_up_is_bilinear_between_pixel_centres():
    maps = torch.tensor([[[0.0, 4.0]]])
    torch.testing.assert_close(resize(maps, (1, 4)), torch.tensor([[[0.0, 1.0, 3.0, 4.0]]]))


def test_resize_leaves_alone_what_fits():
    maps = torch.rand(2, 3, 5)
    assert resize(maps, (3, 5)) is maps


def test_finish_gives_what_metrics_take():
    raw = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    maps = finish(raw, "absolute", (8, 8))
    assert maps.shape == (2, 8, 8)
    assert maps.dtype == np.float32
    assert maps.flags.c_contiguous
    expected = resize(raw.detach().abs().sum(1), (8, 8)).numpy()
    np.testing.assert_allclose(maps, expected, rtol=1e-6)  # rounded to float32 before the sum of three


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((4, 3, 32, 32), (32, 32)),
        ((4, 32, 32), (32, 32)),
        ((4, 64, 1, 1), (32, 32)),
        ((4, 8, 8), (32, 32)),
        ((4, 1, 4, 3), (33, 25)),
        ((4, 1, 5, 4), (33, 25)),
        ((4, 2, 4), (33, 100)),
        ((4, 1, 1), (33, 100)),
        ((4, 64, 128), (32, 64)),
    ],
)
def test_maps_of_whole_images_fit(shape, image):
    images = torch.zeros(4, 3, *image)
    assert misfit(torch.zeros(shape), images) == ""
    assert misfit(np.zeros(shape, np.float16), images) == ""


@pytest.mark.parametrize(
    ("shape", "image", "advice"),
    [
        ((4, 32, 32, 3), (32, 32), "move the channels to axis 1"),
        ((4, 33, 25, 3), (33, 25), "move the channels to axis 1"),
        ((4, 3, 1024), (32, 32), "return a tensor or array"),
        ((4, 3, 16, 32), (32, 32), "return a tensor or array"),
        ((4, 3, 100, 33), (33, 100), "return a tensor or array"),
        ((4, 3, 0, 0), (32, 32), "return a tensor or array"),
        ((3, 4, 32, 32), (32, 32), "return a tensor or array"),
        ((3, 32, 32), (32, 32), "return a tensor or array"),
        ((4, 1, 3, 32, 32), (32, 32), "return a tensor or array"),
        ((4, 32), (32, 32), "return a tensor or array"),
        ((), (32, 32), "return a tensor or array"),
    ],
)
def test_a_misfit_is_described_with_what_would_be_right(shape, image, advice):
    said, _, right = misfit(torch.zeros(shape), torch.zeros(4, 3, *image)).partition("; ")
    assert said.startswith(f"answered {shape} for 4 images of 3 × {image[0]} × {image[1]}")
    assert right.startswith(advice)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ([1, 2], "answered with list; return a tensor"),
        ((torch.zeros(4, 8, 8),), "answered with tuple; return a tensor"),
        (np.zeros((4, 8, 8), object), "answered with an array of object that torch cannot read ("),
        (np.zeros((4, 8, 8))[:, ::-1], "answered with an array of float64 that torch cannot read (At least one stride"),
        (np.zeros((4, 8, 8), ">f4"), "answered with an array of >f4 that torch cannot read ("),
        (torch.zeros(4, 8, 8, dtype=torch.complex64), "answered with complex numbers (torch.complex64); return real"),
        (np.zeros((4, 8, 8), complex), "answered with complex numbers (torch.complex128); return real"),
        (torch.zeros(4, 8, 8, device="meta"), "answered on the device meta; return maps on the images' device, cpu"),
        (torch.zeros(4, 8, 8).to_sparse(), "answered with a tensor that is not dense (torch.sparse_coo); return"),
    ],
)
def test_numbers_that_cannot_be_read_are_a_misfit(raw, said):
    assert misfit(raw, torch.zeros(4, 3, 32, 32)).startswith(said)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64])
def test_all_real_numbers_fit(dtype):
    assert misfit(torch.ones(4, 8, 8, dtype=dtype), torch.zeros(4, 3, 32, 32)) == ""
