"""What a part's code is: its own module and what it imports of its own, read and not run."""

import sys

import pytest

from unfooled import sources
from unfooled.types import Part

FUNCTION = "def method(model, inputs, targets):\n    return inputs\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def names(module):
    __import__(module)
    return [path.name for path in sources._files(sys.modules[module])]


def test_ours_are_read_with_what_they_share(folder):
    assert names("unfooled.baselines.canaries") == ["canaries.py"]
    found = names("unfooled.baselines.propagation")
    assert found[0] == "propagation.py"
    assert {"rules.py", "relevance.py", "redirect.py"} <= set(found)
    assert not {"types.py", "seeding.py", "activations.py"} & set(found)


def test_a_single_file_is_read_with_what_lies_beside_it(folder):
    (folder / "mine_alone.py").write_text("import numpy\nfrom mine_beside import x\n" + FUNCTION)
    (folder / "mine_beside.py").write_text("import mine_deeper\nx = 1\n")
    (folder / "mine_deeper.py").write_text("import mine_alone\n")
    (folder / "mine_unused.py").write_text("y = 1\n")
    assert names("mine_alone") == ["mine_alone.py", "mine_beside.py", "mine_deeper.py"]


def test_a_package_is_read_as_far_as_it_is_used(folder):
    package = folder / "mypackage"
    (package / "sub").mkdir(parents=True)
    for name in ("__init__", "sub/__init__"):
        (package / f"{name}.py").write_text("")
    (package / "method.py").write_text("from . import helper\nfrom .sub.deep import z\n" + FUNCTION)
    (package / "helper.py").write_text("from mypackage import constants\n")
    (package / "constants.py").write_text("c = 1\n")
    (package / "sub" / "deep.py").write_text("from ..other import z\n")
    (package / "other.py").write_text("z = 1\n")
    (package / "unused.py").write_text("")
    found = names("mypackage.method")
    assert found[0] == "method.py"
    assert set(found) - {"__init__.py"} == {"method.py", "helper.py", "constants.py", "deep.py", "other.py"}


def test_what_was_loaded_before_does_not_count(folder):
    (folder / "mine_one.py").write_text(FUNCTION)
    (folder / "mine_two.py").write_text(FUNCTION)
    before = sources.fingerprint(Part("mine_one:method"))
    sources.fingerprint(Part("mine_two:method"))
    assert sources.fingerprint(Part("mine_one:method")) == before


def test_a_change_of_any_of_them_shows(folder):
    (folder / "mine_main.py").write_text("from mine_part import x\n" + FUNCTION)
    (folder / "mine_part.py").write_text("x = 1\n")
    seen = {sources.fingerprint(Part("mine_main:method"))}
    (folder / "mine_part.py").write_text("x = 2\n")
    seen.add(sources.fingerprint(Part("mine_main:method")))
    (folder / "mine_main.py").write_text("from mine_part import x\n\n" + FUNCTION)
    seen.add(sources.fingerprint(Part("mine_main:method")))
    assert len(seen) == 3


def test_a_library_behind_an_adapter_counts_with_its_version(monkeypatch):
    asked, ours = Part("captum:Saliency"), Part("grad_cam")
    before = sources.fingerprint(asked), sources.fingerprint(ours)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99.0")
    assert sources.fingerprint(asked) != before[0]
    assert sources.fingerprint(ours) == before[1]


def test_wrapped_interpreters_count():
    alone = sources.fingerprint(Part("smoothgrad"))
    assert sources.fingerprint(Part("smoothgrad", {"samples": 3})) == alone, "arguments stand in the key already"
    around = {sources.fingerprint(Part("smoothgrad", {"of": Part(name)})) for name in ("grad_cam", "lrp")}
    assert len(around | {alone}) == 3


def test_metrics_have_sources_too():
    assert sources.fingerprint(Part("ssim"), "metrics") != sources.fingerprint(Part("pearson"), "metrics")
