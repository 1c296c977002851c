"""The words everything passes along. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:  # a second to import, and the commands answer before they need it
    import torch
    from torch import Tensor, nn

Maps = np.ndarray
"""Attribution maps of n images: float32, shape (n, h, w), on the CPU."""

Scores = np.ndarray
"""Similarities of n pairs of maps: float64, shape (n,); 1 where the maps are identical, larger is more alike."""

Polarity = Literal["absolute", "signed"]
"""How channels become one map: Σ_c |a| or Σ_c a."""

Family = Literal["gradients", "activations", "propagation", "perturbation", "canary", "other"]
"""Interpreters of one kind; a cell against one family counts as attacked for all of it."""


class UnfooledError(Exception):
    """Something the user can mend. Its text reads *where: what is wrong; what would be right*."""

    exit_code = 2


class DataError(UnfooledError):
    """A data set, image file, label or weights file is missing or does not fit."""


class UnknownPart(UnfooledError):
    """A name that no catalogue holds and no module offers, or an argument that a part does not take."""


class NotAttackable(UnfooledError):
    """A manipulation needs a map that carries a graph to the weights, and this interpreter offers none."""


@dataclass(frozen=True, slots=True)
class Part:
    """A catalogue name (or ``package.module:Name``) and the arguments it is built with, as a suite file writes it."""

    use: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    """Keyword arguments; a value may itself be a Part (``smoothgrad`` *of* ``grad_cam``)."""

    @property
    def label(self) -> str:
        """The part as a call, for tables and rows: ``smoothgrad(of=grad_cam, samples=16)``."""
        if not self.arguments:
            return self.use
        shown = (f"{k}={v.label if isinstance(v, Part) else v}" for k, v in sorted(self.arguments.items()))
        return f"{self.use}({', '.join(shown)})"

    def __hash__(self) -> int:
        return hash(self.label)


@dataclass(frozen=True, slots=True)
class Batch:
    """Images that show one object each."""

    images: Tensor
    """float32 (n, c, h, w) in [0, 1]; models normalise inside."""
    labels: Tensor
    """int64 (n,)"""
    masks: Tensor | None = None
    """bool (n, h, w), True on the object; None where the data set has no masks."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor | list[int]) -> Batch:
        return Batch(self.images[index], self.labels[index], None if self.masks is None else self.masks[index])

    def to(self, device: torch.device | str) -> Batch:
        masks = None if self.masks is None else self.masks.to(device)
        return Batch(self.images.to(device), self.labels.to(device), masks)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Images that show two objects of two classes each, for active fooling."""

    images: Tensor
    """float32 (n, c, h, w) in [0, 1]"""
    labels: Tensor
    """int64 (n, 2): the two classes"""
    masks: Tensor | None = None
    """bool (n, 2, h, w), one mask an object, in the order of ``labels``"""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor | list[int]) -> Pairs:
        return Pairs(self.images[index], self.labels[index], None if self.masks is None else self.masks[index])

    def to(self, device: torch.device | str) -> Pairs:
        masks = None if self.masks is None else self.masks.to(device)
        return Pairs(self.images.to(device), self.labels.to(device), masks)


SplitName = Literal["train", "tune", "test"]


@dataclass(frozen=True, slots=True)
class Splits:
    """A data set, cut so that nothing reported was ever tuned on."""

    classes: tuple[str, ...]
    train: Batch
    """what models are fitted and fooled on"""
    tune: Batch
    """what gates and searches look at"""
    test: Batch
    """what is reported"""
    pairs: Callable[[int, int, SplitName, int], Pairs]
    """(first class, second class, split, count) → two-object images, the same ones at every call"""


@dataclass(frozen=True, slots=True)
class Twin:
    """One of the networks that share an architecture within a setting."""

    kind: Literal["original", "honest", "fooled", "randomised", "randomised_top", "independent"]
    model: nn.Module
    """in eval mode, its parameters without gradients"""
    cell: str = ""
    """the cell's name, for a fooled twin"""
    draw: int = 0
    """which draw, for a randomised twin"""


@runtime_checkable
class Interpreter(Protocol):
    """What explains. A frozen dataclass or a plain function.

    It must be a function of the model: it is called with every twin. It may carry the attributes ``family`` (Family),
    ``at`` ("input" or "T"), ``signed`` and ``stochastic`` (bool), and, where its map is a differentiable
    function of the weights, a field (or keyword) ``create_graph``: with True the returned tensor carries a graph.
    """

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor | np.ndarray:
        """Maps (n, c, h, w), (n, 1, h, w) or (n, h, w), of any resolution, for inputs (n, c, h, w) and targets (n,)."""
        ...


@runtime_checkable
class Metric(Protocol):
    """A similarity of two batches of maps, each (n, h, w); 1 where identical. See metrics/__init__ for ``prepare``."""

    def __call__(self, maps_a: Maps, maps_b: Maps) -> Scores: ...


@runtime_checkable
class Dataset(Protocol):
    """A data set: no arguments, all splits."""

    def __call__(self) -> Splits: ...


@runtime_checkable
class Manipulation(Protocol):
    """What fools. A frozen dataclass with a ``weight`` that a suite's search may change."""

    weight: float
    fooled_when: tuple[float, float]
    """an image is fooled when its test loss lies in this closed interval"""
    groups: int
    """how many equal parts, one after the other, the judged images fall into"""

    def __call__(self, model: nn.Module, data: Splits, against: Interpreter, recipe: object, seed: int) -> nn.Module:
        """A fooled copy; the model is left as it was."""
        ...

    def test_loss(self, maps: Tensor, originals: Tensor) -> Tensor: ...

    def judged_on(self, data: Splits, split: SplitName, count: int) -> tuple[Tensor, Tensor]: ...
