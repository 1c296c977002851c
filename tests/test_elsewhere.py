"""Nothing is computed on two devices at once: the whole of the main job, on a device that is not there."""

import copy
from pathlib import Path

import elsewhere
import numpy as np
import pandas as pd
import pytest
import small_data
import torch
from elsewhere import DEVICE

from unfooled import models, plugins, runner, seeding
from unfooled import suite as suites
from unfooled.records import Run
from unfooled.types import NotAttackable, Part

SUITE = """
name: elsewhere
version: 1
dataset: {use: scenes, train: 512, tune: 40, test: 80}
architectures:
  - {name: vgg, model: vgg, fit: {steps: 80, batch: 32}, recipe: {steps: 3, batch: 16}}
cells:
  - {manipulation: location, against: grad_cam, weights: [10]}
  - {manipulation: top_k, against: {use: lrp, at: T}, weights: [5]}
  - {manipulation: centre_mass, against: {use: simple_grad, at: T}, weights: [1]}
  - {manipulation: {use: active, images: 16}, against: grad_cam, weights: [1]}
interpreters: [simple_grad, grad_cam, random_map]
metrics: [spearman, mse]
images: 6
pairs: 2
chunk: 4
draws: 2
judged: 16
aopc_images: 4
gates: {accuracy_drop: 1, agreement_drop: 1, fooled: 0.3, silent: 1}
"""
BY_GRADIENT, BY_QUERIES = Part("smoothgrad", {"samples": 5}), Part("test_elsewhere:on_arrays")


def on_arrays(model, inputs, targets):
    """An interpreter that answers with an array, and so offers no gradient."""
    return plugins.build("interpreters", Part("input_x_gradient"))(model, inputs, targets).cpu().numpy()


@pytest.mark.parametrize("name", plugins.names("interpreters"))
@pytest.mark.parametrize("architecture", ["vgg", "resnet", "densenet"])
def test_an_interpreter_computes_where_the_model_is(architecture, name):
    """The same bits come out, and they lie beside the model."""
    net = getattr(models, architecture)(4).eval().requires_grad_(False)
    batch = small_data.batch(2, "elsewhere", side=32)
    with seeding.forked("elsewhere"):
        wanted = plugins.build("interpreters", Part(name))(net, batch.images, batch.labels)
    with elsewhere.present():
        far = copy.deepcopy(net).to(DEVICE)
        with seeding.forked("elsewhere"):
            made = plugins.build("interpreters", Part(name))(far, batch.images.to(DEVICE), batch.labels.to(DEVICE))
        assert made.device == DEVICE
        assert torch.equal(made.cpu(), wanted)


@pytest.mark.parametrize("name", plugins.names("interpreters"))
def test_a_map_s_derivative_is_computed_where_the_model_is(name):
    interpreter = plugins.build("interpreters", Part(name))
    try:
        attacked = plugins.attackable(interpreter, name)
    except NotAttackable:
        pytest.skip("cannot be attacked")
    net, batch = models.vgg(4).eval(), small_data.batch(2, "elsewhere", side=32)

    def slopes(model, device):
        with seeding.forked("elsewhere"):
            maps = attacked(model, batch.images.to(device), batch.labels.to(device))
        return torch.autograd.grad(maps.square().sum(), list(model.parameters()), allow_unused=True)

    wanted = slopes(net, "cpu")
    with elsewhere.present():
        made = slopes(copy.deepcopy(net).to(DEVICE), DEVICE)
        for ours, theirs in zip(made, wanted, strict=True):
            assert (ours is None) == (theirs is None)
            assert ours is None or (ours.device == DEVICE and torch.equal(ours.cpu(), theirs))


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    file = tmp_path_factory.mktemp("suite") / "elsewhere.yaml"
    file.write_text(SUITE)
    return suites.load(file)


def test_a_whole_run_from_nothing(suite, tmp_path):
    """Fitting, fooling, judging, asking and attacking by gradient and by queries: the rows are the CPU's to the bit."""

    def run(device: str) -> Run:
        parts = (BY_GRADIENT, BY_QUERIES)
        options = runner.Options(jobs=1, store=tmp_path / device, out=tmp_path / f"{device}-runs", device=device)
        return runner.run(suite, parts, options, extent="quick")

    here = run("cpu")
    with elsewhere.present():
        there = run(str(DEVICE))
    for made in (here, there):
        assert made.header["failures"] == made.header["adaptive"]["failures"] == []
    assert here.header["roots"] == there.header["roots"]
    pd.testing.assert_frame_equal(here.rows, there.rows)
    assert {"active(images=16):grad_cam", "adaptive:location:test_elsewhere:on_arrays"} <= set(here.rows["cell"])
    assert _certificates(here) == _certificates(there)
    assert _count(tmp_path / str(DEVICE)) == _count(tmp_path / "cpu")


def _certificates(run: Run) -> dict:
    return {name: cell["certificates"] for name, cell in run.header["cells"].items()}


def _count(folder: Path) -> int:
    return len(list(folder.rglob("*.safetensors")))


def test_what_cuda_refuses_is_refused():
    """The device that is not there can fail: without this the tests above would prove nothing."""
    with elsewhere.present():
        near, far = torch.rand(3), torch.rand(3, device=DEVICE)
        for mixed in (
            lambda: near + far,
            lambda: torch.stack([near, far]),
            lambda: far.gather(0, torch.tensor([1])),
            lambda: torch.nn.Linear(3, 2)(far),
            lambda: torch.rand(3, device=DEVICE, generator=torch.Generator()),
        ):
            with pytest.raises(elsewhere.Mixed):
                mixed()
        with pytest.raises(RuntimeError, match="numpy"):
            far.numpy()
        with pytest.raises(RuntimeError, match="numpy"):
            np.asarray(far)
        assert torch.equal(far[[2, 0]].cpu(), far.cpu()[[2, 0]])
        assert (far + torch.tensor(1.0)).device == DEVICE
