"""Random streams: every purpose has its own, named by words, and no global state is ever left changed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(*words: object) -> int:
    """A seed in [0, 2**63) that depends on every word (their ``repr``) and on nothing else."""
    digest = hashlib.sha256(repr(words).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*words: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch stream of its own for the purpose that the words name."""
    return torch.Generator(device=device).manual_seed(derive(*words))


def numpy_generator(*words: object) -> np.random.Generator:
    """A numpy stream of its own for the purpose that the words name."""
    return np.random.default_rng(derive(*words))


def _seed_torch(seed: int) -> None:
    """As ``torch.manual_seed``, which formats a traceback in case CUDA starts later: a tenth of a cheap map's time."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextmanager
def forked(*words: object) -> Iterator[None]:
    """Run a block with torch's, numpy's and random's global streams seeded by the words, then put them back."""
    seed = derive(*words)
    python, numpy_state = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        _seed_torch(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
