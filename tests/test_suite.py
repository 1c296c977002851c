"""A suite file becomes a frozen suite, or one line that says what is wrong with it."""

import copy
import sys
from dataclasses import replace

import pytest
import yaml
from tiny_suite import TINY

from unfooled import plugins
from unfooled import suite as suites
from unfooled.specs import SuiteError, as_part, part
from unfooled.types import Part


def written(tmp_path, change=None, text=TINY):
    """A suite file after one change to the tiny one's content."""
    content = yaml.safe_load(text)
    if change:
        change(content)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("name", suites.shipped())
def test_shipped_suites_are_sound(name):
    loaded = suites.load(name)
    assert loaded.name == name
    assert loaded.version >= 0
    assert {p.use for p in loaded.interpreters} >= {"constant", "sobel", "random_map"}, "every suite asks canaries"


def test_what_a_file_says_is_what_a_suite_is(tmp_path):
    loaded = suites.load(written(tmp_path))
    (setting,) = loaded.settings()
    assert setting.name == "vgg-0"
    assert [c.name for c in loaded.cells] == ["location:grad_cam", "active(images=32):simple_grad(at=T)"]
    assert loaded.cells[1].against == Part("simple_grad", {"at": "T"})
    assert loaded.architectures[0].fit.steps == 220
    assert loaded.gates.fooled == 0.3


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("grad_cam", Part("grad_cam")),
        ({"use": "a", "n": 1}, Part("a", {"n": 1})),
        ({"use": "a", "of": {"use": "b", "k": 2}}, Part("a", {"of": Part("b", {"k": 2})})),
        ({"use": "a", "options": {"k": 2}}, Part("a", {"options": {"k": 2}})),
    ],
)
def test_parts(value, wanted):
    assert part(value) == wanted


@pytest.mark.parametrize("value", [3, None, ["a"], {"name": "a"}, {"use": 3}])
def test_what_is_no_part(value):
    with pytest.raises(ValueError, match="is no part"):
        part(value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("grad_cam", Part("grad_cam")),
        ("mine:Method", Part("mine:Method")),
        ("captum:Saliency", Part("captum:Saliency")),
        ("smoothgrad?samples=32&sigma=0.2", Part("smoothgrad", {"samples": 32, "sigma": 0.2})),
        ("lrp?at=T", Part("lrp", {"at": "T"})),
        ("x?flag=true&none=null&word=a=b", Part("x", {"flag": True, "none": None, "word": "a=b"})),
    ],
)
def test_parts_of_the_command_line(text, wanted):
    assert as_part(text) == wanted


def test_a_part_of_the_command_line_that_is_no_yaml():
    with pytest.raises(SuiteError, match=r"^x\?a=\[: an argument is not YAML; "):
        as_part("x?a=[")
    with pytest.raises(SuiteError, match="is no part"):
        as_part("x?use=3")


def at(*keys, value):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def without(key):
    return lambda content: content.pop(key)


BAD = [
    (at("imgaes", value=3), "imgaes: unknown field 'imgaes'; did you mean 'images'?"),
    (at("zzzzzz", value=3), "zzzzzz: unknown field 'zzzzzz'; there are name, version, "),
    (
        at("architectures", 0, "fit", "step", value=3),
        "architectures[0].fit.step: unknown field 'step'; did you mean 'steps'?",
    ),
    (at("cells", 0, "agains", value="lrp"), "cells[0].agains: unknown field 'agains'; did you mean 'against'?"),
    (at("gates", value={"fooledd": 1}), "gates.fooledd: unknown field 'fooledd'; did you mean 'fooled'?"),
    (without("metrics"), "metrics: is missing; a suite needs it"),
    (at("interpreters", 0, value="grad_cma"), "interpreters: no 'grad_cma'; did you mean 'grad_cam'?"),
    (at("cells", 0, "against", value="gradeint"), "interpreters: no 'gradeint'; "),
    (at("cells", 0, "manipulation", value="locatoin"), "manipulations: no 'locatoin'; did you mean 'location'?"),
    (
        at("cells", 0, "against", value={"use": "smoothgrad", "of": "meaningful_perturbation", "samples": 2}),
        "smoothgrad(of=meaningful_perturbation, samples=2): wraps MeaningfulPerturbation, which has no create_graph; ",
    ),
    (
        at("cells", 0, "against", value={"use": "smoothgrad", "sigma": "1e-1"}),
        "interpreters: 'smoothgrad': sigma is '1e-1', of type str; float is right",
    ),
    (at("metrics", 0, value="spaerman"), "metrics: no 'spaerman'; did you mean 'spearman'?"),
    (at("dataset", value="scense"), "datasets: no 'scense'; did you mean 'scenes'?"),
    (at("architectures", 0, "model", value="vgg19"), "models: no 'vgg19'; did you mean 'vgg'?"),
    (at("dataset", "trian", value=3), "datasets: 'scenes' has no argument 'trian'; did you mean 'train'?"),
    (
        at("cells", 0, "manipulation", value={"use": "location", "wieght": 3}),
        "manipulations: 'location' has no argument 'wieght'; did you mean 'weight'?",
    ),
    (at("architectures", 0, "model", value={"use": "vgg", "depth": 3}), "models: 'vgg' has no argument 'depth'; "),
    (
        at("metrics", 0, value={"use": "top_k", "fracton": 0.1}),
        "metrics: 'top_k' has no argument 'fracton'; did you mean ",
    ),
    (at("cells", 0, "against", value="constant"), "constant: has no create_graph; "),
    (at("interpreters", 0, value=3), "interpreters[0]: is no part; a part is a name, or {use: name, argument: value"),
    (at("images", value="many"), "images: Input should be a valid integer"),
    (at("images", value=0), "images: is 0; more than 0 is right"),
    (at("chunk", value=-1), "chunk: is -1; more than 0 is right"),
    (at("judged", value=0), "judged: is 0; more than 0 is right"),
    (at("limit", value=0), "limit: is 0; at least 1 is right"),
    (at("architectures", 0, "recipe", "steps", value=0), "architectures[0].recipe.steps: is 0; more than 0 is right"),
    (at("architectures", 0, "fit", "rate", value=0), "architectures[0].fit.rate: is 0.0; more than 0 is right"),
    (at("architectures", 0, "fit", "steps", value=7), "fit.steps: a cycle of the rate has at least 8"),
    (at("polarities", value=["absolut"]), "polarities: no 'absolut'; absolute and signed are right"),
    (at("polarities", value=[]), "polarities: there are none; "),
    (at("cells", value=[]), "cells: there are none; one at least is right"),
    (at("metrics", value=[]), "metrics: there are none; one at least is right"),
    (at("metrics", value=["mse", "mse"]), "metrics: 'mse' stands there twice; once is right"),
    (lambda c: c["cells"].append(copy.deepcopy(c["cells"][0])), "cells: 'location:grad_cam' stands there twice; "),
    (at("architectures", 0, "seeds", value=[1, 1]), "settings: 'vgg-1' stands there twice; once is right"),
    (at("architectures", 0, "seeds", value=[]), "settings: there are none; one at least is right"),
    (at("name", value="../../elsewhere"), "name: '../../elsewhere' names folders; letters, digits, _, - and . are"),
    (at("architectures", 0, "name", value=".."), "name: '..' names folders; "),
    (at("cells", 0, "weights", value=[float("inf")]), "Out of range float values are not JSON compliant"),
    (
        lambda c: c["cells"].append({"manipulation": {"use": "active", "first": 2}, "against": "grad_cam"}),
        "cells: active fooling swaps one pair of classes in a suite; give all the same two",
    ),
]


@pytest.mark.parametrize(("change", "line"), BAD, ids=[line[:50] for _, line in BAD])
def test_a_mistake_ends_in_one_line(tmp_path, change, line):
    with pytest.raises(SuiteError) as wrong:
        suites.load(written(tmp_path, change))
    assert str(wrong.value).startswith(f"mine.yaml: {line}")
    assert "\n" not in str(wrong.value)
    assert wrong.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a: [", "mine.yaml: is not YAML: while parsing"),
        (b"- a\n- b\n", "mine.yaml: holds list; a suite is a mapping with name, dataset, cells"),
        (b"", "mine.yaml: holds NoneType; a suite is a mapping"),
        (b"\xff\xfe\x00", "mine.yaml: is not YAML: "),
        (b"a: !!python/object/apply:os.system [echo]", "mine.yaml: is not YAML: could not determine a constructor"),
    ],
)
def test_what_is_no_suite(tmp_path, content, line):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(SuiteError) as wrong:
        suites.load(path)
    assert str(wrong.value).startswith(line)
    assert "\n" not in str(wrong.value)


def test_a_suite_that_is_not_there(tmp_path):
    with pytest.raises(SuiteError, match=r"^suites: no 'smok'; did you mean 'smoke'\?$"):
        suites.load("smok")
    with pytest.raises(SuiteError, match=r"^suites: no 'xyz'; there are .*smoke.*, or name a \.yaml file$"):
        suites.load("xyz")
    with pytest.raises(SuiteError, match=r"gone\.yaml: no such file; name a suite file, or one of .*smoke"):
        suites.load(tmp_path / "gone.yaml")


@pytest.fixture
def loaded(tmp_path):
    return suites.load(written(tmp_path))


def keys(one):
    (setting,) = one.settings()
    return {
        "original": setting.original_key,
        "honest": setting.honest_key,
        "location": setting.fooled_key(one.cells[0]),
        "told": setting.certificate_key(one.cells[0]),
        "images": setting.images_key,
        "suite": one.digest,
    }


def test_whom_is_asked_and_where_data_lie_stand_in_no_digest(loaded):
    other = replace(loaded, interpreters=loaded.interpreters[:1], data_dir="elsewhere")
    assert keys(other) == keys(loaded)


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({"images": 21}, {"images", "suite"}),
        ({"chunk": 9}, {"suite"}),
        ({"seed": 1}, {"suite"}),
        ({"limit": 3}, {"suite"}),
        ({"aopc_images": 5}, {"told", "suite"}),
        ({"judged": 61}, {"location", "told", "images", "suite"}),
    ],
)
def test_a_key_moves_with_what_it_depends_on_and_with_nothing_else(loaded, change, moved):
    before, after = keys(loaded), keys(replace(loaded, **change))
    assert {k for k in before if before[k] != after[k]} == moved


def test_networks_are_shared_between_suites_that_make_them_alike(loaded):
    (a,) = loaded.architectures
    slower = replace(loaded, architectures=(replace(a, recipe=replace(a.recipe, steps=41)),))
    assert {k for k, v in keys(slower).items() if v == keys(loaded)[k]} == {"original"}
    fewer = replace(loaded, cells=loaded.cells[:1])
    assert {k for k, v in keys(fewer).items() if v == keys(loaded)[k]} == {"original", "honest", "location"}
    heavier = replace(loaded, cells=(replace(loaded.cells[0], weights=(4.0,)), loaded.cells[1]))
    assert {k for k, v in keys(heavier).items() if v == keys(loaded)[k]} == {"original", "honest"}


def test_a_users_own_code_stands_in_the_keys_of_what_it_makes(loaded, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "my_attacked.py"
    seen = []
    for scale in (1, 2):
        file.write_text(f"def method(model, inputs, targets, create_graph=False):\n    return {scale} * inputs\n")
        sys.modules.pop("my_attacked", None)
        cell = replace(loaded.cells[0], against=Part("my_attacked:method"))
        seen.append(keys(replace(loaded, cells=(cell, loaded.cells[1]))))
    assert {k for k in seen[0] if seen[0][k] != seen[1][k]} == {"location", "told", "images"}


def test_a_note_is_words_and_no_number(loaded):
    assert replace(loaded, note="strongly compressed").digest == loaded.digest


def test_data_are_looked_for_where_the_command_says(loaded, tmp_path):
    named = Part("parquet", {"root": "cifar10", "train": 3})
    assert suites.located(loaded, named) == named
    there = replace(loaded, data_dir=str(tmp_path))
    assert suites.located(there, named).arguments == {"root": str(tmp_path / "cifar10"), "train": 3}
    assert suites.located(there, Part("x", {"root": "/data"})).arguments["root"] == "/data"


def test_what_a_wrapper_wraps_may_be_a_bare_name():
    wrapped = part({"use": "smoothgrad", "of": "grad_cam", "samples": 4})
    assert wrapped == part({"use": "smoothgrad", "of": {"use": "grad_cam"}, "samples": 4})
    assert wrapped.label == "smoothgrad(of=grad_cam, samples=4)"
    assert plugins.build("interpreters", wrapped).of == plugins.build("interpreters", part("grad_cam"))
