"""A commitment to maps: anyone who is later shown the maps can check that they are those that were scored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from unfooled.maps import min_max
from unfooled.types import Maps


def rounded(maps: Maps) -> np.ndarray:
    """Each map min–max scaled and rounded to bytes, so that float noise seldom changes it: uint8 (n, h, w)."""
    return np.rint(np.nan_to_num(min_max(maps)) * 255).astype(np.uint8)


def leaves(maps: Maps) -> list[bytes]:
    """SHA-256 of each rounded map; maps that are rounded already have the same."""
    return [hashlib.sha256(b"map" + m.tobytes()).digest() for m in rounded(maps)]


def root(hashes: Iterable[bytes]) -> str:
    """The Merkle root as hex: pairs are hashed level by level, an odd one is carried up as it is."""
    level = list(hashes)
    if not level:
        return hashlib.sha256(b"empty").hexdigest()
    while len(level) > 1:
        pairs = [hashlib.sha256(b"pair" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[2 * len(pairs) :]
    return level[0].hex()
