"""A name becomes an object, or one line that says what would be right."""

import functools
import re
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest
import torch

from unfooled import plugins, suite
from unfooled.baselines.gradients import SimpleGrad
from unfooled.baselines.perturbation import MeaningfulPerturbation
from unfooled.baselines.smoothing import BetaSmoothing, SmoothGrad
from unfooled.types import NotAttackable, Part, UnknownPart

VGG = EntryPoint("vgg", "unfooled.models:vgg", "unfooled.models")
MODULE = """
from dataclasses import dataclass
import torch

@dataclass(frozen=True)
class Method:
    sharpness: float = 1.0
    family = "gradients"
    def __call__(self, model, inputs, targets):
        return inputs

def plain(model, inputs, targets, *, scale=1.0):
    return inputs * scale
plain.family = "other"

class Picky:
    def __init__(self, level):
        if level > 3:
            raise ValueError("level is above 3")

class Broken:
    def __init__(self, how):
        if how == "exits":
            raise SystemExit(0)
        raise {"key": KeyError, "attribute": AttributeError, "os": OSError}[how]("no luck")

number = 3
"""


def bound_around(model, inputs, targets, of=None, create_graph=False):
    return of(inputs)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module in the working directory, which is not on the path."""
    (tmp_path / "my_methods.py").write_text(MODULE)
    (tmp_path / "needs_more.py").write_text("import a_library_that_is_not_there\n")
    (tmp_path / "does_not_parse.py").write_text("def f(:\n")
    (tmp_path / "raises.py").write_text("\nraise RuntimeError('no card')\n")
    (tmp_path / "is_a_script.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield
    sys.modules.pop("my_methods", None)


@pytest.mark.parametrize("kind", [*plugins.KINDS, "adapters"])
def test_every_catalogue_name_loads(kind):
    names = plugins.names(kind)
    assert names == sorted(names)
    assert names
    for name in names:
        assert callable(plugins.find(kind, name))


@pytest.mark.parametrize(
    ("kind", "name", "line"),
    [
        ("interpreters", "gradcam", "interpreters: no 'gradcam'; did you mean 'grad_cam'?"),
        ("interpreters", "zzz", "interpreters: no 'zzz'; the catalogue has beta_smoothing, "),
        ("metrics", "spearmann", "metrics: no 'spearmann'; did you mean 'spearman'?"),
        ("models", "no_such:net", "models: no module 'no_such' for 'no_such:net'; it must be importable from "),
        (
            "interpreters",
            "needs_more:X",
            "interpreters: 'needs_more:X' needs 'a_library_that_is_not_there', which is not ",
        ),
        ("interpreters", "my_methods:Methd", "interpreters: 'my_methods' has no 'Methd'; did you mean 'Method'?"),
        (
            "interpreters",
            "my_methods:number",
            "interpreters: 'my_methods:number' is of type int; it must be a class or",
        ),
        (
            "interpreters",
            "./my_methods.py:Method",
            "interpreters: './my_methods.py:Method' names a file; did you mean '",
        ),
        ("interpreters", ":", "interpreters: ':' is no package.module:Name"),
        ("interpreters", ":Method", "interpreters: ':Method' is no package.module:Name"),
        (
            "interpreters",
            "Pytorch-Grad-CAM:GradCAM",
            "interpreters: 'Pytorch-Grad-CAM:GradCAM' is no package.module:Name; did you mean 'pytorch_grad_cam'?",
        ),
        ("interpreters", "does_not_parse:f", "interpreters: 'does_not_parse': raised SyntaxError: "),
        (
            "interpreters",
            "is_a_script:f",
            "interpreters: 'is_a_script': raised SystemExit: 0 (is_a_script.py:2) while it was ",
        ),
        (
            "interpreters",
            "raises:f",
            "interpreters: 'raises': raised RuntimeError: no card (raises.py:2) while it was ",
        ),
    ],
)
def test_what_is_not_there_ends_in_one_line(mine, kind, name, line):
    with pytest.raises(UnknownPart) as unknown:
        plugins.find(kind, name)
    assert str(unknown.value).startswith(line)
    assert "\n" not in str(unknown.value)
    assert unknown.value.exit_code == 2


@pytest.mark.parametrize(
    ("trait", "value", "line"),
    [
        ("family", "gradient", "interpreters: my_methods:Method: family is 'gradient'; did you mean 'gradients'?"),
        ("at", "t", "interpreters: my_methods:Method: at is 't'; input, T are known"),
    ],
)
def test_a_trait_that_nobody_knows_is_refused(mine, monkeypatch, trait, value, line):
    monkeypatch.setattr(plugins.find("interpreters", "my_methods:Method"), trait, value, raising=False)
    with pytest.raises(UnknownPart, match=f"^{re.escape(line)}$"):
        plugins.build("interpreters", Part("my_methods:Method"))


def test_the_working_directory_is_searched_last(mine, tmp_path):
    (tmp_path / "colorsys.py").write_text("def Method(model, inputs, targets): ...")
    with pytest.raises(UnknownPart, match="'colorsys' has no 'Method'"):
        plugins.find("interpreters", "colorsys:Method")
    assert plugins.find("interpreters", "my_methods:Method").__module__ == "my_methods"


def test_what_others_bring_is_told_from_ours(mine, monkeypatch):
    theirs = EntryPoint("theirs", "my_methods:Method", "unfooled.interpreters")
    monkeypatch.setattr(plugins, "_entry_points", lambda kind: {"theirs": theirs, "vgg": VGG})
    assert plugins.ours("models", "vgg")
    assert not plugins.ours("interpreters", "theirs")
    assert not plugins.ours("interpreters", "my_methods:Method")


def test_a_catalogued_part_of_others_stands_in_the_keys_by_its_source(mine, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    points = {"theirs": EntryPoint("theirs", "my_methods:Method", "unfooled.interpreters")}
    monkeypatch.setattr(plugins, "_entry_points", lambda kind: points)
    before = suite._foreign_code(("interpreters", Part("theirs")))
    (tmp_path / "my_methods.py").write_text(MODULE + "\n# changed\n")
    assert len(before) == 1
    assert suite._foreign_code(("interpreters", Part("theirs"))) != before


def test_classes_are_called_and_functions_bound(mine):
    method = plugins.build("interpreters", Part("my_methods:Method", {"sharpness": 2.0}))
    assert method.sharpness == 2.0
    bound = plugins.build("interpreters", Part("my_methods:plain", {"scale": 3.0}))
    assert torch.equal(bound(None, torch.ones(1), None), torch.full((1,), 3.0))
    assert plugins.build("interpreters", Part("my_methods:plain")) is plugins.find("interpreters", "my_methods:plain")


def test_parts_among_the_arguments_are_built_first():
    nested = plugins.build("interpreters", Part("smoothgrad", {"of": Part("grad_cam"), "samples": 2}))
    assert type(nested.of).__name__ == "GradCAM"


@pytest.mark.parametrize(
    ("part", "line"),
    [
        (
            Part("smoothgrad", {"sampels": 3}),
            "interpreters: 'smoothgrad' has no argument 'sampels'; did you mean 'samples'",
        ),
        (
            Part("my_methods:Method", {"q": 1}),
            "interpreters: 'my_methods:Method' has no argument 'q'; it takes sharpness",
        ),
        (Part("my_methods:Picky", {"level": 4}), "interpreters: my_methods:Picky(level=4): level is above 3"),
        (
            Part("my_methods:Picky"),
            "interpreters: my_methods:Picky: Picky.__init__() missing 1 required positional arg",
        ),
        (Part("smoothgrad", {"of": Part("grad_kam")}), "interpreters: no 'grad_kam'; did you mean 'grad_cam'?"),
        (
            Part("smoothgrad", {"samples": "1e1"}),
            "interpreters: 'smoothgrad': samples is '1e1', of type str; int is right",
        ),
        (
            Part("my_methods:Method", {"sharpness": None}),
            "interpreters: 'my_methods:Method': sharpness is None, of type NoneType; float is right",
        ),
        *(
            (
                Part("my_methods:Broken", {"how": how}),
                f"interpreters: my_methods:Broken(how={how}): raised {error} (my_methods.py:{line}) while it was built",
            )
            for how, error, line in [
                ("key", "KeyError: 'no luck'", 25),
                ("attribute", "AttributeError: no luck", 25),
                ("os", "OSError: no luck", 25),
                ("exits", "SystemExit: 0", 24),
            ]
        ),
    ],
)
def test_arguments_that_are_not_taken_end_in_one_line(mine, part, line):
    with pytest.raises(UnknownPart) as unknown:
        plugins.build("interpreters", part)
    assert str(unknown.value).startswith(line)


def test_an_argument_of_a_fitting_type_is_taken(mine):
    assert plugins.build("interpreters", Part("my_methods:Method", {"sharpness": 2})).sharpness == 2
    assert plugins.build("interpreters", Part("simple_grad", {"create_graph": True})).create_graph is True


def test_check_says_it_without_building(mine):
    plugins.check("interpreters", Part("my_methods:Picky", {"level": 4}))
    with pytest.raises(UnknownPart, match="no argument 'levle'; did you mean 'level'"):
        plugins.check("interpreters", Part("my_methods:Picky", {"levle": 4}))
    with pytest.raises(UnknownPart, match="no 'grad_kam'"):
        plugins.check("interpreters", Part("smoothgrad", {"of": Part("grad_kam")}))


def test_traits_are_read_through_what_is_bound(mine):
    assert plugins.trait(plugins.find("interpreters", "my_methods:plain"), "family", "x") == "other"
    bound = plugins.build("interpreters", Part("my_methods:plain", {"scale": 2.0}))
    assert plugins.trait(bound, "family", "x") == "other"
    assert plugins.trait(bound, "stochastic", "unknown") == "unknown"


def test_attackable_switches_the_graph_on():
    assert plugins.attackable(SimpleGrad(), "simple_grad") == SimpleGrad(create_graph=True)

    def function(model, inputs, targets, create_graph=False):
        return create_graph

    assert plugins.attackable(functools.partial(function), "mine")(None, None, None) is True


def test_who_cannot_be_attacked_is_named():
    @dataclass(frozen=True)
    class Plain:
        def __call__(self, model, inputs, targets): ...

    for given in (Plain(), lambda model, inputs, targets: inputs):
        with pytest.raises(NotAttackable, match=r"^mine: has no create_graph; "):
            plugins.attackable(given, "mine")


@pytest.mark.parametrize(
    ("wrapper", "said"),
    [
        (SmoothGrad(of=MeaningfulPerturbation()), "wraps MeaningfulPerturbation, which has no create_graph; "),
        (
            SmoothGrad(of=BetaSmoothing(of=MeaningfulPerturbation())),
            "wraps BetaSmoothing, which wraps MeaningfulPerturbation, which has no create_graph; ",
        ),
        (functools.partial(bound_around, of=len), "wraps len, which has no create_graph; "),
    ],
    ids=["a wrapper", "a wrapper of one", "a function"],
)
def test_a_wrapper_of_what_cannot_be_attacked_is_named_whole(wrapper, said):
    with pytest.raises(NotAttackable) as refused:
        plugins.attackable(wrapper, "smoothgrad(of=mine)")
    assert str(refused.value).startswith(f"smoothgrad(of=mine): {said}")
    assert plugins.attackable(SmoothGrad(of=BetaSmoothing()), "smoothgrad(of=beta_smoothing)").create_graph
