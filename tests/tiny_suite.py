"""The smallest suite that is really fitted and fooled, and what tests do with it."""

from dataclasses import dataclass, replace
from pathlib import Path

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
