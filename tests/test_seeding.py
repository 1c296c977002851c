"""Streams are named by words, and no global state is left changed."""

import hashlib
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unfooled import seeding

WORDS = st.lists(st.text() | st.integers(), max_size=3)


def drawn():
    return torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()


@given(WORDS, WORDS)
def test_a_seed_is_of_its_words_and_of_nothing_else(a, b):
    assert 0 <= seeding.derive(*a) < 2**63
    assert (seeding.derive(*a) == seeding.derive(*b)) == (a == b)


def test_a_seed_is_half_of_a_hash_in_every_process():
    wanted = int.from_bytes(hashlib.sha256(b"('images', 3)").digest()[:8], "big") >> 1
    code = "from unfooled import seeding; print(seeding.derive('images', 3))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert int(out.stdout) == wanted == seeding.derive("images", 3)


def test_streams_do_not_hang_on_global_seeds():
    torch.manual_seed(1)
    first = torch.rand(3, generator=seeding.generator("a")), seeding.numpy_generator("a").random(3)
    torch.manual_seed(2)
    again = torch.rand(3, generator=seeding.generator("a")), seeding.numpy_generator("a").random(3)
    other = torch.rand(3, generator=seeding.generator("b")), seeding.numpy_generator("b").random(3)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert (first[1] == again[1]).all()
    assert (first[1] != other[1]).all()


def test_a_forked_block_draws_its_own_and_puts_all_three_back():
    with seeding.forked("block", 1):
        first = drawn()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    untouched = drawn()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    with seeding.forked("block", 1):
        assert drawn() == first
    assert drawn() == untouched
    with seeding.forked("block", 2):
        assert drawn() != first


def test_a_forked_block_that_fails_puts_all_three_back():
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    untouched = drawn()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    with pytest.raises(ZeroDivisionError), seeding.forked("x"):
        drawn()[2] / 0
    assert drawn() == untouched
