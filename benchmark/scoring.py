"""Answers scored one by one, as they come: what is held at a time does not grow with the number of twins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from unfooled import localisation, maps, merkle, seeding
from unfooled.metrics import Prepared, State, prepared
from unfooled.types import Maps, Metric

Answer = Mapping[str, Maps]
"""polarity → maps (n, h, w)"""


@dataclass(frozen=True)
class Ruler:
    """The original's maps of n images, and what each of m metrics prepared of them, in each of p polarities."""

    own: Answer
    measures: Sequence[Prepared]
    states: Mapping[str, list[State]]
    silent: np.ndarray
    """bool (p, n): the original's maps that say nothing"""
    words: tuple[object, ...]
    """name the random stream of the null"""

    @classmethod
    def of(cls, own: Answer, metrics: Sequence[Metric], *words: object) -> Ruler:
        measures = [prepared(metric) for metric in metrics]
        states = {p: [m.prepare(some) for m in measures] for p, some in own.items()}
        return cls(own, measures, states, np.stack([maps.says_nothing(some) for some in own.values()]), words)

    def measure(self, answer: Answer, randomised: bool) -> tuple[np.ndarray, np.ndarray]:
        """Similarities float32 (p, m, n) to the original's maps, and bool (p, n): who was silent.

        NaN where either map says nothing; but a silent map of a ``randomised`` twin takes the null: the original's map
        against itself with its pixels shuffled.
        """
        silent = np.stack([maps.says_nothing(answer[p]) for p in self.own])
        values = np.empty((len(self.own), len(self.measures), silent.shape[1]), np.float32)
        for k, polarity in enumerate(self.own):
            lost = silent[k] & ~self.silent[k]
            shuffled = self._shuffled(polarity) if randomised and lost.any() else None
            for m, (measure, state) in enumerate(zip(self.measures, self.states[polarity], strict=True)):
                value = measure.against(state, answer[polarity])
                if shuffled is not None:
                    value = np.where(lost, measure.against(state, shuffled), value)
                gone = self.silent[k] if randomised else lost | self.silent[k]
                values[k, m] = np.where(gone, np.nan, value)
        return values, silent

    def _shuffled(self, polarity: str) -> Maps:
        stream = seeding.numpy_generator("null", *self.words)
        own = self.own[polarity]
        return stream.permuted(own.reshape(len(own), -1), axis=1).reshape(own.shape)


@dataclass
class Tally:
    """What the answers to the questions about some images came to; each question's number → …"""

    values: dict[int, np.ndarray] = field(default_factory=dict)
    """similarities (p, m, n) to the original's maps; none for the original itself"""
    silent: dict[int, np.ndarray] = field(default_factory=dict)
    """bool (p, n)"""
    leaves: dict[int, list[bytes]] = field(default_factory=dict)
    """hashes of the maps of the first polarity"""
    placed: dict[int, np.ndarray] = field(default_factory=dict)
    """(2, n): mass and pointing of these maps, where the images have masks"""
    shown: dict[int, np.ndarray] = field(default_factory=dict)
    """the first few of them, as a gallery draws them"""

    def put(self, i: int, answer: Answer, ruler: Ruler, randomised: bool, masks: np.ndarray | None) -> None:
        """The answer to question i; the original's is question 0."""
        if i:
            self.values[i], self.silent[i] = ruler.measure(answer, randomised)
        else:
            self.silent[i] = ruler.silent
        first = next(iter(answer.values()))
        self.leaves[i] = merkle.leaves(first)
        if masks is not None:
            self.placed[i] = localisation.figures(first, masks)

    def stacked(self) -> tuple[np.ndarray, np.ndarray]:
        """Values (p, m, q − 1, n) without the original's and silence (p, q, n), questions in their order."""
        values, silent = ([some[i] for i in sorted(some)] for some in (self.values, self.silent))
        return np.stack(values, 2), np.stack(silent, 1)
