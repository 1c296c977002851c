"""What all tests share: one thread, a store of their own, and one tiny suite that was really fitted and fooled."""

import fcntl
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

TINY = """
name: tiny
version: 1
dataset: {use: scenes, train: 1200, tune: 120, test: 150}
architectures:
  - {name: vgg, model: vgg, seeds: [0], fit: {steps: 220, batch: 32, rate: 0.006}, recipe: {steps: 40, warmup: 5}}
cells:
  - {manipulation: location, against: grad_cam, weights: [3]}
  - {manipulation: {use: active, images: 32}, against: {use: simple_grad, at: T}, weights: [1]}
interpreters: [grad_cam, constant, random_map]
metrics: [spearman, pearson, mse]
images: 20
pairs: 4
chunk: 8
draws: 2
judged: 60
aopc_images: 4
gates: {accuracy_drop: 1, agreement_drop: 1, fooled: 0.3, silent: 1}
"""


@pytest.fixture(autouse=True, scope="session")
def own_store(tmp_path_factory):
    """No test reads or writes the user's store; processes that tests start inherit this one."""
    before = os.environ.get("UNFOOLED_STORE")
    os.environ["UNFOOLED_STORE"] = str(tmp_path_factory.mktemp("store"))
    torch.set_num_threads(1)
    yield
    if before is None:
        del os.environ["UNFOOLED_STORE"]
    else:
        os.environ["UNFOOLED_STORE"] = before


@dataclass(frozen=True)
class Tiny:
    """A suite of one cell of each kind whose networks lie in a store."""

    file: Path
    store: Path
    out: Path

    @property
    def suite(self):
        from unfooled import suite

        return suite.load(self.file)

    def options(self, **changes):
        from unfooled.runner import Options

        return replace(Options(jobs=1, store=self.store, out=self.out), **changes)

    def run(self, *interpreters, suite=None, **changes):
        from unfooled import runner

        return runner.run(suite or self.suite, interpreters, self.options(**changes))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Built once, even where several processes test side by side."""
    from unfooled import building, runner

    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared
    file = tmp_path_factory.mktemp("suite") / "tiny.yaml"
    file.write_text(TINY)
    made = Tiny(file, shared / "tiny-store", tmp_path_factory.mktemp("runs"))
    with (shared / "tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        store = runner.open_store(made.options(), made.suite)
        building.Builder(made.suite.settings()[0], store, say=lambda text: None).all()
    return made
