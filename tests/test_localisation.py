"""Mass inside a mask and the pointing game, counted pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from unfooled import localisation

MAPS = arrays.arrays(np.float32, (3, 6, 6), elements=st.floats(-8, 8, width=16))
MASKS = arrays.arrays(bool, (3, 6, 6))


def by_hand(one, mask, tolerance):
    size = np.abs(one)
    if size.max() - 0 == 0 or one.max() == one.min():
        return 0.0, 0.0
    inside = sum(size[r, c] for r in range(6) for c in range(6) if mask[r, c])
    largest = [(r, c) for r in range(6) for c in range(6) if size[r, c] == size.max()]
    near = [
        any(
            mask[y, x]
            for y in range(max(0, r - tolerance), min(6, r + tolerance + 1))
            for x in range(max(0, c - tolerance), min(6, c + tolerance + 1))
        )
        for r, c in largest
    ]
    return inside / size.sum(dtype=np.float64), sum(near) / len(near)


@given(MAPS, MASKS, st.integers(0, 2))
def test_both_are_counted_by_hand(maps, masks, tolerance):
    wanted = np.array([by_hand(a, m, tolerance) for a, m in zip(maps, masks, strict=True)])
    np.testing.assert_allclose(localisation.mass(maps, masks), wanted[:, 0], atol=1e-6)
    np.testing.assert_allclose(localisation.pointing(maps, masks, tolerance), wanted[:, 1], atol=1e-12)


def test_a_perfect_and_a_blind_map():
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 2:5, 3:6] = True
    assert localisation.mass(mask.astype(np.float32), mask) == 1
    assert localisation.pointing(mask.astype(np.float32), mask) == 1
    ramp = np.broadcast_to(1 + 1e-3 * np.arange(64.0, dtype=np.float32).reshape(1, 8, 8), (1, 8, 8))
    assert localisation.mass(ramp, mask) == pytest.approx(mask.mean(), abs=0.01), "an even map gets the mask's share"
    assert localisation.pointing(ramp, mask) == 0


def test_silent_maps_hit_nothing():
    maps = np.stack([np.zeros((4, 4)), np.ones((4, 4)), np.full((4, 4), np.nan)]).astype(np.float32)
    masks = np.ones((3, 4, 4), bool)
    assert localisation.mass(maps, masks).tolist() == [0, 0, 0]
    assert localisation.pointing(maps, masks).tolist() == [0, 0, 0]


def test_draws_are_averaged_and_chunks_weighed_by_their_images():
    rng = np.random.default_rng(0)
    masks = rng.random((5, 6, 6)) > 0.5
    maps = {"a": rng.random((5, 6, 6), np.float32), "b": rng.random((5, 6, 6), np.float32)}
    names, order = ["random", "random", "other"], [maps["a"], maps["b"], maps["a"]]
    parts = [slice(0, 3), slice(3, 5)]
    placed = [{k: localisation.figures(m[part], masks[part]) for k, m in enumerate(order)} for part in parts]
    chunks = [localisation.by_name(names, some) for some in placed]
    found = localisation.summary(chunks)
    assert list(found) == ["random", "other"]
    wanted = np.mean([localisation.mass(m, masks).mean() for m in maps.values()])
    assert found["random"]["mass"] == pytest.approx(wanted, abs=5e-5)
    assert found["other"]["pointing"] == pytest.approx(localisation.pointing(maps["a"], masks).mean(), abs=5e-5)
    assert localisation.summary([]) == {}
