"""What a fooled twin kept and what it changed, and whether it may stand in a suite."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unfooled import seeding, training
from unfooled.manipulations.fooling import attacked_maps
from unfooled.types import Batch, Interpreter, Manipulation

SILENT = 1e-6  # a scaled map whose largest value is below this says nothing


@dataclass(frozen=True)
class Gates:
    """When a twin is refused, and when a cell counts as fooled; all read on the tuning split."""

    accuracy_drop: float = 0.02
    """below min(original, honest) by more than this: refused"""
    agreement_drop: float = 0.03
    """agreement with the original below the honest twin's by more than this: refused"""
    fooled: float = 0.7
    """least corrected rate of a fooled cell"""
    silent: float = 0.02
    """largest share of silent maps of a fooled cell"""


@dataclass(frozen=True)
class Kept:
    """What a twin kept of its original on one split; shares are fractions of 1."""

    accuracy: float
    agreement: float
    """share of images with the original's prediction"""
    divergence: float
    """mean KL(p_original ‖ p), nats"""
    distance: float
    """‖w − w0‖ over all weights, Euclidean"""


@dataclass(frozen=True)
class Rates:
    """Fooling success against one interpreter on one split; shares are fractions of 1."""

    published: float
    """share of images whose test loss lies in the manipulation's interval (Heo et al. 2019)"""
    on_kept: float
    """of the images whose prediction was kept, the share that is fooled and not silent"""
    not_silent: float
    """the same, a silent map counting as not fooled"""
    null: float
    """the rate that the original's own maps reach when dealt out to other images"""
    corrected: float
    """(not_silent − null) / (1 − null); the smaller of both classes for active fooling"""
    silent: float
    """share of silent maps"""


def kept(original: nn.Module, twin: nn.Module, batch: Batch) -> Kept:
    """Compare a twin with its original on a batch."""
    before, after = (training.log_probabilities(m, batch.images) for m in (original, twin))
    labels = batch.labels.to(after.device)
    return Kept(
        accuracy=(after.argmax(1) == labels).float().mean().item(),
        agreement=(after.argmax(1) == before.argmax(1)).float().mean().item(),
        divergence=(before.exp() * (before - after)).sum(1).mean().item(),
        distance=_distance(original, twin),
    )


def _distance(a: nn.Module, b: nn.Module) -> float:
    squares = [(p - q).square().sum() for p, q in zip(a.parameters(), b.parameters(), strict=True)]
    return torch.stack(squares).sum().sqrt().item()


def refused(twin: Kept, honest: Kept, original_accuracy: float, gates: Gates) -> str:
    """Why a twin may not stand in a suite; empty where it may."""
    floor = min(original_accuracy, honest.accuracy) - gates.accuracy_drop
    if twin.accuracy < floor:
        return f"accuracy {twin.accuracy:.3f} is below {floor:.3f}"
    floor = honest.agreement - gates.agreement_drop
    if twin.agreement < floor:
        return f"agreement {twin.agreement:.3f} is below {floor:.3f}"
    return ""


def rates(
    manipulation: Manipulation,
    interpreter: Interpreter,
    original: nn.Module,
    twin: nn.Module,
    judged: tuple[Tensor, Tensor],
) -> Rates:
    """Fooling success of a twin against an interpreter on what the manipulation is ``judged_on``.

    Where the judged images fall into groups (active fooling: one a class), the group with the lower corrected rate.
    """
    images, targets = judged
    before, after = (attacked_maps(interpreter, m, images, targets) for m in (original, twin))
    size = len(images) // manipulation.groups
    dealt = before[torch.cat([start + derangement(size) for start in range(0, len(images), size)])]
    low, high = manipulation.fooled_when
    hit, chance = (_within(manipulation.test_loss(m, before), low, high) for m in (after, dealt))
    same = training.predict(original, images).argmax(1) == training.predict(twin, images).argmax(1)
    columns = zip(*(c.cpu().split(size) for c in (hit, chance, same, silent_maps(after))), strict=True)
    return min((_summary(*column) for column in columns), key=lambda r: r.corrected)


def _within(values: Tensor, low: float, high: float) -> Tensor:
    return (values >= low) & (values <= high)


def _summary(hit: Tensor, chance: Tensor, same: Tensor, silent: Tensor) -> Rates:
    heard = hit & ~silent
    null = chance.float().mean().item()
    loud = heard.float().mean().item()
    return Rates(
        published=hit.float().mean().item(),
        on_kept=heard[same].float().mean().item() if same.any() else 0.0,
        not_silent=loud,
        null=null,
        corrected=(loud - null) / (1 - null) if null < 1 else 0.0,
        silent=silent.float().mean().item(),
    )


def silent_maps(maps: Tensor) -> Tensor:
    """bool (n,): a scaled map that is (nearly) zero or constant."""
    flat = maps.flatten(1)
    return (flat.amax(1) - flat.amin(1) < SILENT) | ~flat.isfinite().all(1)


def derangement(count: int) -> Tensor:
    """A fixed permutation without a fixed point: what deals out maps to other images."""
    order = torch.randperm(count, generator=seeding.generator("derangement", count))
    image = torch.empty_like(order)
    image[order] = order.roll(1)
    return image
