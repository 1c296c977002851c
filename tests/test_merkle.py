"""A commitment to maps: any change shows, and the root is the tree written again."""

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unfooled import merkle

HASHES = st.lists(st.binary(min_size=32, max_size=32), max_size=20)


def tree(level):
    """Pairs level by level, the odd one carried up."""
    if len(level) == 1:
        return level[0]
    above = []
    for i in range(0, len(level), 2):
        pair = level[i : i + 2]
        above.append(hashlib.sha256(b"pair" + pair[0] + pair[1]).digest() if len(pair) == 2 else pair[0])
    return tree(above)


@given(HASHES)
def test_the_root_is_the_tree_written_again(hashes):
    wanted = tree(hashes).hex() if hashes else hashlib.sha256(b"empty").hexdigest()
    assert merkle.root(hashes) == wanted
    assert merkle.root(iter(hashes)) == wanted


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=2, max_size=20, unique=True), st.data())
def test_any_change_of_a_leaf_or_of_the_order_shows(hashes, data):
    i = data.draw(st.integers(0, len(hashes) - 1))
    j = data.draw(st.integers(0, len(hashes) - 1).filter(lambda k: k != i))
    changed, swapped = hashes.copy(), hashes.copy()
    changed[i] = bytes([changed[i][0] ^ 1]) + changed[i][1:]
    swapped[i], swapped[j] = swapped[j], swapped[i]
    assert len({merkle.root(h) for h in (hashes, changed, swapped, hashes[:-1])}) == 4


def test_a_leaf_is_the_hash_of_a_map_in_bytes():
    maps = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)
    for leaf, one in zip(merkle.leaves(maps), maps, strict=True):
        scaled = (one.astype(np.float64) - one.min()) / (one.max() - one.min())
        as_bytes = np.rint(scaled * 255).astype(np.uint8)
        assert leaf == hashlib.sha256(b"map" + as_bytes.tobytes()).digest()


def test_rounding_noise_does_not_show_and_a_level_of_grey_does():
    levels = np.arange(16.0).reshape(1, 4, 4) * 17
    noisy = levels * (1 + 1e-4 * np.sin(levels))
    assert merkle.leaves(levels) == merkle.leaves(noisy)
    other = levels.copy()
    other[0, 1, 1] += 1
    assert merkle.leaves(levels) != merkle.leaves(other)


def test_silent_maps_have_leaves_too():
    maps = np.stack([np.zeros((4, 4)), np.full((4, 4), np.nan)])
    assert len(merkle.leaves(maps)) == 2
