"""Maps that are shown later, against the Merkle roots that an entry committed to."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from unfooled import merkle
from unfooled.leaderboard.checker import Filed
from unfooled.leaderboard.complaints import Complaint
from unfooled.leaderboard.entry import Entry
from unfooled.leaderboard.reference import shipped
from unfooled.types import Maps, UnfooledError

SPLITS = ("test", "pairs", "independent")
"""whose maps are hashed apart: the twins' on each split, and the independent network's"""
LARGEST = 4 * 2**30
"""bytes that the arrays of one setting may take"""


def root(answers: Mapping[str, Maps], chunk: int) -> str:
    """The Merkle root of one setting's maps.

    ``answers``: split → maps (questions, n, h, w), the questions in the order in which a run asks them, as floats or
    already rounded to bytes; ``chunk`` is the suite's. Splits are hashed apart, chunk by chunk, question by question.
    """
    splits = (merkle.root(_leaves(answers[s], chunk)) for s in SPLITS if s in answers)
    return merkle.root(bytes.fromhex(one) for one in splits)


def _leaves(maps: np.ndarray, chunk: int) -> Iterator[bytes]:
    for start in range(0, maps.shape[1], chunk):
        for question in maps[:, start : start + chunk]:
            yield from merkle.leaves(question.astype(np.float32))


def check_shown(filed: Sequence[Filed], folder: Path) -> list[Complaint]:
    """Check the maps of the one entry that was named. Raises UnfooledError for none or several."""
    if len(filed) != 1:
        raise UnfooledError(f"--maps: {len(filed)} good entries were named; maps are shown of one")
    entry = filed[0].entry
    return check(entry, folder, shipped({entry.suite.name})[entry.suite.name].chunk)


def check(entry: Entry, folder: Path, chunk: int) -> list[Complaint]:
    """Check ``folder/<setting>.npz``, one for each setting, with an array (questions, n, h, w) a split."""
    found = []
    for setting, facts in sorted(entry.settings.items()):
        path = folder / f"{setting}.npz"
        try:
            shown = root(_load(path), chunk)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())[:120]
            found.append(Complaint(path.name, f"cannot be read ({reason}); an npz with the setting's maps is right"))
            continue
        if shown != facts.root:
            found.append(Complaint(path.name, f"its maps make root {shown[:16]}…, the entry has {facts.root[:16]}…"))
    return found


def _load(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        size = sum(info.file_size for info in archive.infolist())
    if size > LARGEST:
        raise ValueError(f"unpacks to {size} bytes; {LARGEST} at most")
    with np.load(path, allow_pickle=False) as arrays:
        found = {split: arrays[split] for split in SPLITS if split in arrays.files}
    if "test" not in found or any(a.ndim != 4 or a.dtype.kind not in "fu" for a in found.values()):
        raise ValueError("holds no maps (questions, n, h, w) of numbers under 'test'")
    return found
