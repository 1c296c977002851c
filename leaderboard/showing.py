"""The maps behind an entry, drawn again and kept: what ``check --maps`` holds against the entry's root later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import numpy as np

from unfooled import building, merkle, parallel, plugins, runner
from unfooled import suite as suites
from unfooled.asking import Interview, Question
from unfooled.leaderboard import checker, reveal, verify
from unfooled.leaderboard.complaints import Complaint
from unfooled.leaderboard.reference import of_suite
from unfooled.store import Store, publish
from unfooled.suite import Setting
from unfooled.types import Maps, Part


def draw_again(
    file: Path, suite: str | None, store: Path | None, folder: Path, device: str = "cpu", jobs: int = 1
) -> list[Complaint]:
    """Ask an entry's interpreter again, here and without a sandbox, and write ``folder/SETTING.npz`` for each setting.

    The suite is a file, or None for the shipped one that the entry names. The complaints are those of ``reveal.check``:
    none, where the maps make the roots that the entry committed to. Raises Refused for a file that is no good entry,
    NotComparable without its networks.
    """
    what = suites.load(suite or checker.named_suite(file))
    place = runner.open_store(runner.Options(store=store), what)
    entry = verify.checked(file, of_suite(what, place)).entry
    work = [joblib.delayed(_write)(s, entry.method.part, place, folder, device) for s in what.settings()]
    for _ in parallel.results(work, jobs):
        pass  # each is on disk
    return reveal.check(entry, folder, what.chunk)


def _write(setting: Setting, part: Part, store: Store, folder: Path, device: str) -> None:
    with parallel.one_thread():  # sums over several threads round otherwise than a run's
        shown = maps(setting, part, store, device)
    publish(folder / f"{setting.name}.npz", lambda path: np.savez_compressed(path, **shown))


def maps(setting: Setting, part: Part, store: Store, device: str = "cpu") -> dict[str, np.ndarray]:
    """Split → the maps that a run scores, rounded: uint8 (questions, n, h, w), in the order in which it asks.

    The independent network's stand apart, under ``independent``.
    """
    splits = building.images(setting, store)
    twins = building.load_twins(setting, store, splits[0], device)
    classes = building.class_count(setting, store)
    interpreter = plugins.build("interpreters", part)  # one instance answers for all splits, as in a run
    found = {}
    for images in splits:
        asker = _Keeping(part.label, interpreter, {}, setting, classes, device)
        asker.rows(twins, images)
        kept, apart = np.concatenate(asker.kept, 1), np.array(asker.apart)
        found[images.split] = kept[~apart]
        if apart.any():
            found["independent"] = kept[apart]
    return found


@dataclass(frozen=True)
class _Keeping(Interview):
    """An interview that keeps the maps whose hashes a run's root is made of."""

    kept: list[np.ndarray] = field(default_factory=list)
    """a chunk each"""
    apart: list[bool] = field(default_factory=list)
    """for each question: is it the independent network?"""

    def _ask(
        self, asked: list[Question], images: building.Images, number: int
    ) -> Iterator[tuple[int, dict[str, Maps]]]:
        first, rounded = self.setting.suite.polarities[0], {}
        for i, answer in super()._ask(asked, images, number):
            rounded[i] = merkle.rounded(answer[first])
            yield i, answer
        self.apart[:] = [q.twin == "independent" for q in asked]
        self.kept.append(np.stack([rounded[i] for i in range(len(asked))]))
