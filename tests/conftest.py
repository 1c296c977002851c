"""What all tests share: one thread, a store of their own, and one tiny suite that was really fitted and fooled."""

import fcntl
import os

import pytest
import torch
from tiny_suite import TINY, Tiny


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
