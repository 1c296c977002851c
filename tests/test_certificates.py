"""What a twin kept and changed: numpy's answer beside ours, and the gates at their edges."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import small_data
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from unfooled import certificates
from unfooled.certificates import Gates, Kept
from unfooled.manipulations.passive import Location, TopK
from unfooled.types import Batch


class Table(nn.Module):
    """Logits by the number that an image holds."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.as_tensor(logits, dtype=torch.float32))

    def forward(self, x):
        return self.logits[x[:, 0, 0, 0].long()]


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 5)), rng.normal(size=(40, 5))
    b[:25] = a[:25] + 0.05 * b[:25]
    images = torch.arange(40.0)[:, None, None, None]
    labels = torch.as_tensor(rng.integers(0, 5, 40))
    return a, b, Batch(images, labels)


def test_kept_is_what_numpy_says(pair):
    a, b, batch = pair
    found = certificates.kept(Table(a), Table(b), batch)
    p, q = (np.exp(x - x.max(1, keepdims=True)) for x in (a, b))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    assert found.accuracy == pytest.approx((b.argmax(1) == batch.labels.numpy()).mean(), abs=1e-6)
    assert found.agreement == pytest.approx((a.argmax(1) == b.argmax(1)).mean(), abs=1e-6)
    assert found.divergence == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-4)
    assert found.distance == pytest.approx(np.linalg.norm(a - b), rel=1e-5)


def test_a_network_keeps_all_of_itself(pair):
    a, _, batch = pair
    found = certificates.kept(Table(a), Table(a), batch)
    assert (found.agreement, found.divergence, found.distance) == (1.0, 0.0, 0.0)


HONEST = Kept(accuracy=0.95, agreement=0.97, divergence=0.0, distance=1.0)


@pytest.mark.parametrize(
    ("accuracy", "agreement", "original", "reason"),
    [
        (0.95, 0.97, 0.96, ""),
        (0.931, 0.941, 0.96, ""),
        (0.929, 0.97, 0.96, "accuracy 0.929 is below 0.930"),
        (0.91, 0.97, 0.92, ""),  # the original is the worse one: its accuracy counts
        (0.89, 0.97, 0.92, "accuracy 0.890 is below 0.900"),
        (0.95, 0.939, 0.96, "agreement 0.939 is below 0.940"),
    ],
)
def test_gates(accuracy, agreement, original, reason):
    twin = replace(HONEST, accuracy=accuracy, agreement=agreement)
    assert certificates.refused(twin, HONEST, original, Gates()) == reason


@given(st.integers(2, 200))
def test_nobody_gets_his_own_map(count):
    order = certificates.derangement(count)
    assert sorted(order.tolist()) == list(range(count))
    assert (order != torch.arange(count)).all()
    assert torch.equal(order, certificates.derangement(count))


@dataclass(frozen=True)
class Told:
    """An interpreter that shows each network's own maps, by the number that an image holds."""

    maps: dict

    def __call__(self, model, inputs, targets):
        return self.maps[id(model)][inputs[:, 0, 0, 0].long()][:, None]


def told(before, after, a=None, b=None):
    n = len(before)
    logits = np.eye(n) if a is None else a
    original, twin = Table(logits), Table(logits if b is None else b)
    judged = torch.arange(float(n))[:, None, None, None], torch.zeros(n, dtype=torch.long)
    return original, twin, Told({id(original): before, id(twin): after}), judged


def test_rates_count_what_fell_into_the_interval():
    from unfooled.manipulations.passive import frame

    inside = torch.zeros(10, 8, 8)
    inside[:, 3:5, 3:5] = 1
    after = inside.clone()
    after[:4] = frame(8)  # four of ten show the frame
    after[4] = 0  # one is silent
    b = np.eye(10)
    b[0] = np.roll(b[0], 1)  # the first one's prediction was lost
    original, twin, interpreter, judged = told(inside, after, b=b)
    found = certificates.rates(Location(), interpreter, original, twin, judged)
    assert found.published == pytest.approx(0.4)
    assert found.not_silent == pytest.approx(0.4)
    assert found.on_kept == pytest.approx(3 / 9)
    assert found.null == 0
    assert found.corrected == pytest.approx(0.4)
    assert found.silent == pytest.approx(0.1)


def test_a_silent_map_is_published_but_not_counted():
    """An all-zero map passes top-k as published; here it is silent, and the rate is none."""
    before = torch.rand(10, 8, 8, generator=torch.Generator().manual_seed(0))
    original, twin, interpreter, judged = told(before, torch.zeros(10, 8, 8))
    found = certificates.rates(TopK(), interpreter, original, twin, judged)
    assert (found.published, found.not_silent, found.silent) == (1.0, 0.0, 1.0)


def test_a_rate_is_corrected_by_what_swapping_maps_would_reach():
    """Maps in opposite corners pass top-k for any pair dealt from different corners; the null is counted by hand."""
    before = torch.zeros(12, 8, 8)
    before[:, 7, 0] = 1e-3  # never constant
    before[:6, :2, :4], before[6:, 6:, 4:] = 1, 1
    order = certificates.derangement(12)
    null = np.mean([(i < 6) != (int(order[i]) < 6) for i in range(12)])
    original, twin, interpreter, judged = told(before, before.flip(0))
    found = certificates.rates(TopK(), interpreter, original, twin, judged)
    assert found.null == pytest.approx(null)
    assert 0 < null < 1
    assert found.published == 1
    assert found.corrected == pytest.approx((1 - null) / (1 - null))
    unmoved = certificates.rates(TopK(), Told({id(original): before, id(twin): before}), original, twin, judged)
    assert unmoved.published == 0
    assert unmoved.corrected == pytest.approx((0 - null) / (1 - null))


def test_of_two_classes_the_less_fooled_one_counts():
    from unfooled.manipulations.active import Active

    rng = np.random.default_rng(3)
    before = torch.as_tensor(rng.normal(size=(12, 8, 8)), dtype=torch.float32).abs()
    after = before.clone()
    after[:6] = before[6:]  # the first class shows the second's maps, the second its own
    original, twin, interpreter, judged = told(before, after)
    found = certificates.rates(Active(), interpreter, original, twin, judged)
    assert found.published == 0
    swapped = torch.cat([before[6:], before[:6]])
    original, twin, interpreter, judged = told(before, swapped)
    assert certificates.rates(Active(), interpreter, original, twin, judged).published == 1


def test_silent_maps():
    some = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0))
    some[1], some[2], some[3, 0, 0] = 0, 0.7, float("nan")
    assert certificates.silent_maps(some).tolist() == [False, True, True, True]


def test_a_fitted_network_fools_nobody_by_itself():
    data = small_data.splits()
    model = small_data.fitted(data)
    from unfooled.baselines.activations import GradCAM

    found = certificates.rates(Location(), GradCAM(), model, model, (data.test.images, data.test.labels))
    assert found.corrected <= 0.0
    assert found.on_kept == found.not_silent
