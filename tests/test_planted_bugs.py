"""Bugs that people really make, planted in an interpreter: the comparison with the correct one fails for each.

The smoke suite's own frozen twins and images, as ``.ci/run`` compares them with ``leaderboard/reference``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from unfooled import records, runner, suite
from unfooled.baselines.activations import GradCAM
from unfooled.baselines.gradients import SimpleGrad
from unfooled.leaderboard import regression
from unfooled.leaderboard.verdicts import Comparison
from unfooled.records import Run
from unfooled.types import Part


@dataclass(frozen=True)
class _Bug:
    create_graph: bool = False

    at = "input"
    signed = False
    stochastic = False


class Rewritten(_Bug):
    """Grad-CAM by other code: no bug."""

    family = "activations"

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return layer_cam(model, inputs, targets, -1).relu()


class WrongTarget(_Bug):
    """Explains the class after the one that was asked for."""

    family = "activations"

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return GradCAM()(model, inputs, (targets + 1) % 10)


class NoTarget(_Bug):
    """Explains the sum of all logits: the target was forgotten."""

    family = "gradients"

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        x = inputs.clone().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(model(x).sum(), x)[0]


class DroppedAbs(_Bug):
    """Adds the channels up before their absolute value is taken."""

    family = "gradients"

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return SimpleGrad()(model, inputs, targets).sum(1, keepdim=True)


class DroppedReLU(_Bug):
    """Grad-CAM without its ReLU: what speaks against the class shows as if it spoke for it."""

    family = "activations"

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return layer_cam(model, inputs, targets, -1)


class OffByOneLayer(_Bug):
    """Grad-CAM at the convolution before the right one."""

    family = "activations"

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return layer_cam(model, inputs, targets, -2).relu()


def layer_cam(model: nn.Module, inputs: Tensor, targets: Tensor, layer: int) -> Tensor:
    """Σ_k α_k A^k at the input of the n-th convolution."""
    seen = []
    convolution = [m for m in model.modules() if isinstance(m, nn.Conv2d)][layer]
    hook = convolution.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.enable_grad():
        logits = model(inputs.clone().requires_grad_())
        hook.remove()
        slopes = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), seen[0])[0]
    return (slopes.mean((2, 3), keepdim=True) * seen[0]).sum(1, keepdim=True).detach()


PLANTED = {"grad_cam": (WrongTarget, DroppedReLU, OffByOneLayer), "simple_grad": (NoTarget, DroppedAbs)}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Run:
    """The correct interpreters and the bugged ones, over the same twins."""
    folder = tmp_path_factory.mktemp("planted")
    bugs = [Part(f"{__name__}:{bug.__name__}") for bugs in PLANTED.values() for bug in bugs]
    chosen = replace(suite.load("smoke"), interpreters=(*map(Part, PLANTED), *bugs, Part(f"{__name__}:Rewritten")))
    return runner.run(chosen, (), runner.Options(store=folder / "store", out=folder / "runs"))


def as_new_version(smoke: Run, correct: str, bug: type) -> Run:
    """The run as it would be if the bug had been made in the interpreter itself."""
    label = f"{__name__}:{bug.__name__}"
    rows = smoke.rows[smoke.rows["interpreter"] == label].copy()
    rows["interpreter"] = rows["interpreter"].astype(str).replace(label, correct).astype("category")
    return Run(rows, smoke.header | {"interpreters": {correct: smoke.header["interpreters"][label]}}, smoke.folder)


def compared(smoke: Run, correct: str, bug: type, **rule: object) -> Comparison:
    return regression.compare(smoke, as_new_version(smoke, correct, bug), interpreters=[correct], **rule)


@pytest.mark.parametrize(("correct", "bug"), [(c, b) for c, bugs in PLANTED.items() for b in bugs])
def test_a_planted_bug_is_caught(smoke, correct, bug):
    found = compared(smoke, correct, bug, fail_on="change")
    assert found.exit_code == 1, found.sentence
    assert "its maps are not the same" in found.changes[0].note


def test_a_bug_that_costs_stability_is_worse(smoke):
    """The others do not: their maps are other maps, as stable or more so, and only ``--fail-on change`` minds."""
    assert compared(smoke, "grad_cam", DroppedReLU).of("-")


def test_the_same_by_other_code_is_no_change(smoke):
    found = compared(smoke, "grad_cam", Rewritten, fail_on="change")
    assert found.exit_code == 0, found.sentence
    assert found.changes[0].moved < 1e-4


def test_the_reference_is_what_the_baselines_answer_today(smoke):
    reference = records.load(Path(__file__).parents[1] / "leaderboard" / "reference" / "smoke-v2.parquet")
    found = regression.compare(reference, smoke, interpreters=list(PLANTED), fail_on="change")
    assert found.exit_code == 0, found.sentence
