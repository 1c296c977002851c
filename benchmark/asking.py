"""One interpreter asked about all twins of a setting: maps checked, metrics taken, rows out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from unfooled import localisation, maps, merkle, plugins, records, seeding, sentinel, training
from unfooled.building import Images
from unfooled.scoring import Ruler, Tally
from unfooled.suite import Setting
from unfooled.types import Interpreter, Maps, Metric, Part, Twin, UnfooledError

SHOWN = {"test": 3, "pairs": 1}
"""split → of how many of its first images the maps are kept for the gallery"""
PICTURED = ("original", "honest", "fooled", "randomised")
"""the twins that a gallery shows; of the randomised ones the first draw"""


class BrokenAnswer(UnfooledError):
    """An interpreter's answer is not n maps of finite numbers."""

    exit_code = 3


@dataclass(frozen=True)
class Question:
    """A twin as it is asked: with a target of its own, or from another random stream."""

    twin: str
    model: nn.Module
    cell: str = ""
    draw: int = 0
    stream: str = ""
    """which random stream; the same for all twins but ``self``"""
    shift: int = 0
    """how far the target is moved on, for the wrong-class control"""


def questions(twins: list[Twin], split: str, pair_cells: set[str]) -> list[Question]:
    """Who is asked on a split, the original first: a cell's twin where its cell is judged, the controls on test."""
    original = next(t.model for t in twins if t.kind == "original")
    asked = [Question("original", original)]
    if split == "test":
        asked += [Question("self", original, stream="again"), Question("wrong_class", original, shift=1)]
        asked += [Question(t.kind, t.model) for t in twins if t.kind == "independent"]
    for t in twins:
        elsewhere = t.kind == "fooled" and (t.cell in pair_cells) != (split == "pairs")
        if t.kind not in ("original", "independent") and not elsewhere:
            asked.append(Question(t.kind, t.model, t.cell, t.draw))
    return asked


@dataclass(frozen=True)
class Answer:
    """What one interpreter said in one setting."""

    rows: pd.DataFrame
    """the rows of docs/design.md"""
    root: str
    """Merkle root over the rounded maps"""
    shown: dict[str, np.ndarray]
    """``twin/cell`` (records.gallery_name) → the maps of a split's first few images as a gallery draws them: half
    precision, largest |h| 1"""
    localisation: dict[str, dict[str, float]]
    """``twin/cell`` → mass inside the object's mask and pointing game; empty without masks"""
    apart: str = ""
    """Merkle root of the independent network's maps where they are not part of ``root`` yet"""


@dataclass(frozen=True)
class Interview:
    """An interpreter, under its label, and what it is scored by."""

    label: str
    interpreter: Interpreter
    metrics: dict[str, Metric]
    setting: Setting
    classes: int
    device: str = "cpu"

    def rows(self, twins: list[Twin], images: Images) -> Answer:
        """All answers on one split, a chunk of images at a time and one twin after the other: memory grows with the
        number of neither."""
        suite = self.setting.suite
        pair_cells = {c.name for c in suite.cells if c.manipulation.use == "active"}
        asked = questions(twins, images.split, pair_cells)
        names = [f"{q.twin}/{q.cell}" for q in asked]
        apart = next((i for i, q in enumerate(asked) if q.twin == "independent"), None)
        chunks = [
            self._chunk(asked, images[start : start + suite.chunk], number)
            for number, start in enumerate(range(0, len(images), suite.chunk))
        ]
        values, silent = (np.concatenate(parts, -1) for parts in zip(*(c.stacked() for c in chunks), strict=True))
        frame = self._frame(asked, images.split, values, silent)
        if apart is not None:
            frame = _where_alike(frame, asked[apart].model, images, self.device)
        leaves = [(i, leaf) for c in chunks for i, some in sorted(c.leaves.items()) for leaf in some]
        placed = [localisation.by_name(names, c.placed) for c in chunks if c.placed]
        return Answer(
            frame,
            merkle.root(leaf for i, leaf in leaves if i != apart),
            {records.gallery_name(images.split, names[i]): some for i, some in sorted(chunks[0].shown.items())},
            localisation.summary(placed),
            apart="" if apart is None else merkle.root(leaf for i, leaf in leaves if i == apart),
        )

    def _chunk(self, asked: list[Question], images: Images, number: int) -> Tally:
        """Each answer is scored as it comes; one that comes before the original's waits for that."""
        suite, masks = self.setting.suite, None if images.masks is None else images.masks.numpy()
        tally, waiting, ruler = Tally(), [], None
        for i, answer in self._ask(asked, images, number):
            waiting.append((i, answer))
            if i == 0:
                ruler = Ruler.of(answer, list(self.metrics.values()), suite.seed, self.setting.name, number)
            while ruler and waiting:
                done, one = waiting.pop()
                tally.put(done, one, ruler, asked[done].twin.startswith("randomised"), masks)
                if number == 0 and asked[done].draw == 0 and asked[done].twin in PICTURED:
                    tally.shown[done] = _drawn(one[suite.polarities[0]][: SHOWN[images.split]])
        return tally

    def _ask(self, asked: list[Question], images: Images, number: int) -> Iterator[tuple[int, dict[str, Maps]]]:
        """Every question's number and maps by polarity. Every other chunk starts with a random network, or a memoiser,
        which keeps the first map of an image, would answer with the original's."""
        last = len(asked) - 1
        order = range(len(asked)) if number % 2 == 0 or not last else [last, 0, *range(last - 1, 0, -1)]
        for i in order:
            yield i, self._maps(asked[i], images, number)

    def _maps(self, question: Question, images: Images, number: int) -> dict[str, Maps]:
        suite = self.setting.suite
        inputs, targets = images.images.to(self.device), images.targets.to(self.device)
        if question.shift:
            targets = (targets + question.shift) % self.classes
        words = (suite.seed, self.setting.name, images.split, number, question.stream)
        with seeding.forked(*words), sentinel.untouched(question.model, inputs, targets, self.label):
            raw = self.interpreter(question.model, inputs, targets)
        raw = self._checked(raw, inputs, question)
        size = tuple(inputs.shape[2:])
        return {polarity: maps.finish(raw, polarity, size) for polarity in suite.polarities}

    def _checked(self, raw: object, images: Tensor, question: Question) -> Tensor:
        if complaint := maps.misfit(raw, images):
            raise BrokenAnswer(f"{self.label}: {complaint}")
        raw, n = torch.as_tensor(raw), len(images)
        broken = int((~raw.isfinite().flatten(1).all(1)).sum())
        if broken and question.twin == "original":
            raise BrokenAnswer(f"{self.label}: {broken} of {n} maps of the original hold NaN or infinity")
        return raw

    def _frame(self, asked: list[Question], split: str, values: np.ndarray, silent: np.ndarray) -> pd.DataFrame:
        """The rows of docs/design.md; the original is not compared with itself."""
        polarities, metrics = self.setting.suite.polarities, list(self.metrics)
        p, m, q, n = (axis.ravel() for axis in np.indices(values.shape))
        twins = asked[1:]

        def one(value: str) -> pd.Categorical:
            return pd.Categorical.from_codes(np.zeros(len(p), np.int8), [value])

        def coded(codes: np.ndarray, words: list[str]) -> pd.Categorical:
            known = sorted(set(words))
            return pd.Categorical.from_codes(np.array([known.index(w) for w in words], np.int16)[codes], known)

        return pd.DataFrame(
            {
                "setting": one(self.setting.name),
                "split": one(split),
                "cell": coded(q, [t.cell for t in twins]),
                "twin": coded(q, [t.twin for t in twins]),
                "draw": np.array([t.draw for t in twins], np.int8)[q],
                "interpreter": one(self.label),
                "at": one(str(plugins.trait(self.interpreter, "at", "input"))),
                "polarity": coded(p, list(polarities)),
                "metric": coded(m, metrics),
                "image": n.astype(np.int32),
                "value": values.ravel(),
                "silent_original": silent[p, 0, n],
                "silent": silent[:, 1:][p, q, n],
            }
        )


def _where_alike(rows: pd.DataFrame, independent: nn.Module, images: Images, device: str) -> pd.DataFrame:
    """The rows, of the independent network only for images that it classifies as the label, as all other twins do."""
    right = training.predict(independent, images.images.to(device)).argmax(1).cpu() == images.targets
    alike = right.numpy()[rows["image"].to_numpy()]
    return rows[alike | (rows["twin"] != "independent").to_numpy()].reset_index(drop=True)


def _drawn(some: Maps) -> np.ndarray:
    """Each map over its largest |h|, which no picture of it shows, in half precision."""
    largest = np.abs(some).max((1, 2), keepdims=True)
    drawable = (largest > 0) & np.isfinite(largest)
    return np.divide(some, largest, out=np.zeros_like(some), where=drawable).astype(np.float16)


def interview(
    named: Part, setting: Setting, twins: list[Twin], splits: list[Images], classes: int, device: str = "cpu"
) -> Answer:
    """All answers of one interpreter in one setting; one instance answers for all twins."""
    interpreter = plugins.build("interpreters", named)
    metrics = {m.label: plugins.build("metrics", m) for m in setting.suite.metrics}
    asker = Interview(named.label, interpreter, metrics, setting, classes, device)
    answers = [asker.rows(twins, images) for images in splits]
    roots = [a.root for a in answers] + [a.apart for a in answers if a.apart]
    root = merkle.root(map(bytes.fromhex, roots))
    shown = {name: drawn for a in answers for name, drawn in a.shown.items()}
    return Answer(records.joined([a.rows for a in answers]), root, shown, answers[0].localisation)
