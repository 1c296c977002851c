"""The imagenet suite: the paper's constants, its real networks for a step on tiny pictures, and half precision."""

import math
from dataclasses import replace

import numpy as np
import pytest
import small_data
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from unfooled import building, models, plugins, runner, training
from unfooled import suite as suites
from unfooled.cli import main
from unfooled.searching import Judge
from unfooled.specs import SuiteError
from unfooled.training import Recipe
from unfooled.types import Part

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIDE = 64
NETWORKS = ("vgg19", "resnet50", "densenet121")
T = {"vgg19": ("features.34", 14), "resnet50": ("layer4.2", 7), "densenet121": ("features.denseblock4.denselayer16", 7)}
"""the module whose input is T, and its side for images of 224 (the released code's modules 34, 19 and 64)"""

PAPER = {  # (rate, weight) of the released final script, in the order of NETWORKS
    "location:lrp(at=T)": ((1e-6, 1), (2e-6, 2), (1e-6, 4)),
    "location:grad_cam": ((1e-6, 1), (2e-6, 2), (2e-6, 2)),
    "top_k:lrp(at=T)": ((5e-7, 1), (1e-6, 1), (4e-7, 1.5)),
    "top_k:grad_cam": ((3e-7, 0.4), (3e-6, 6), (3e-7, 4)),
    "centre_mass:lrp(at=T)": ((2e-6, 0.25), (5e-7, 0.25), (6e-7, 0.5)),
    "centre_mass:grad_cam": ((1e-6, 0.25), (2e-6, 0.25), (1e-7, 1)),
    "active(first=386, images=1100, second=555):lrp(at=T)": ((1e-5, 10),) * 3,
    "active(first=386, images=1100, second=555):grad_cam": ((1e-5, 10),) * 3,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six small pictures of each of two classes, a bright side the class, for train and for test."""
    root, stream = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split in ("train", "val"):
        for label, name in enumerate(("n0001", "n0002")):
            place = root / "imagenet" / split / name
            place.mkdir(parents=True)
            for i in range(6):
                pixels = stream.integers(0, 120, (70, 80, 3), np.uint8)
                pixels[:, 40 * label : 40 * label + 40] += 100
                Image.fromarray(pixels).save(place / f"{i}.png")
    return root


def content(*networks, **changes):
    """The shipped suite's file with these networks on tiny pictures, for one step."""
    shipped = yaml.safe_load((runner.frozen_folder().parent / "imagenet.yaml").read_text(encoding="utf-8"))
    shipped["architectures"] = [a for a in shipped["architectures"] if a["name"] in networks]
    for a in shipped["architectures"]:
        a["recipe"] |= {"steps": 1, "batch": 2, **changes}
    for c in shipped["cells"]:
        c["tuned"] = {n: t for n, t in c["tuned"].items() if n in networks}
        if isinstance(c["manipulation"], dict):
            c["manipulation"] |= {"first": 0, "second": 1, "images": 4}
    shipped["dataset"] |= {"size": SIDE, "resize": SIDE, "train": 8, "tune": 4, "test": 12}
    small = {"images": 2, "pairs": 1, "draws": 1, "judged": 2, "aopc_images": 0, "interpreters": ["grad_cam", "sobel"]}
    return shipped | small | {"metrics": ["spearman"], "gates": {"accuracy_drop": 1, "agreement_drop": 1}}


def written(path, *networks, **changes):
    path.write_text(yaml.safe_dump(content(*networks, **changes)), encoding="utf-8")
    return path


def judge(folder, tmp_path, network, cell, **changes):
    """Twins of a cell for a network whose weights are as its layers draw them."""
    suite = suites.load(written(tmp_path / f"{network}.yaml", network, **changes))
    (setting,) = replace(suite, data_dir=str(folder)).settings()
    part = replace(setting.architecture, model=Part("torchvision", {"name": network}))
    setting = replace(setting, architecture=part)
    data = building.splits(setting, DEVICE)
    original = training.freeze(building.fresh(setting, len(data.classes), DEVICE))
    (chosen,) = (c for c in suite.cells if c.name == cell)
    return Judge(setting, chosen, data, original, original)


def test_the_papers_constants():
    suite = suites.load("imagenet")
    assert [s.architecture.name for s in suite.settings()] == list(NETWORKS)
    assert {c.name for c in suite.cells} == set(PAPER)
    for i, setting in enumerate(suite.settings()):
        said = {c.name: (setting.recipe(c).rate, *setting.weights(c)) for c in suite.cells}
        assert said == {name: row[i] for name, row in PAPER.items()}
        passive = [row[i][0] for name, row in PAPER.items() if not name.startswith("active")]
        recipe = setting.architecture.recipe
        assert recipe.rate == max(passive)
        assert (recipe.batch, recipe.warmup, recipe.cosine, recipe.distillation) == (8, 0, False, 0)
        assert recipe.precision is None


@pytest.mark.parametrize("network", NETWORKS)
def test_the_papers_layers(network):
    with torch.device("meta"):  # shapes alone: no weights are made
        model = models.torchvision(network).eval()
        seen = []
        models.target_module(model).register_forward_hook(lambda _m, given, _out: seen.append(given[0].shape))
        model(torch.empty(1, 3, 224, 224))
    path, side = T[network]
    assert models.target_layer(model) == f"network.{path}"
    assert seen[0][2:] == (side, side)


@pytest.mark.parametrize(
    ("network", "cell", "precision"),
    [
        ("vgg19", "top_k:grad_cam", "bfloat16"),
        ("resnet50", "location:lrp(at=T)", "bfloat16"),
        ("densenet121", "centre_mass:lrp(at=T)", None),
    ],
)
def test_a_step_of_the_real_networks(folder, tmp_path, network, cell, precision):
    """Adam's first step moves every weight that has a slope by its rate, the cell's own."""
    judged = judge(folder, tmp_path, network, cell, precision=precision)
    assert judged.recipe.rate == dict(zip(NETWORKS, PAPER[cell], strict=True))[network][0]
    twin = judged.twin(judged.setting.weights(judged.cell)[0])
    moved = [(b - a).abs().max().item() for a, b in zip(judged.original.parameters(), twin.parameters(), strict=True)]
    # weights are below 2, where float32 has a spacing of 2⁻²³ = 1.2e-7: each of two numbers may be half of it off
    assert max(moved) <= judged.recipe.rate + 1.2e-7
    assert sum(m > 0 for m in moved) > 0.9 * len(moved)


@pytest.mark.parametrize("against", ["grad_cam", "lrp", "simple_grad"])
def test_half_precision_is_nearly_the_same_step(against):
    """bfloat16 keeps 8 bits of every product: slopes err by some percent, so most of their signs stay."""
    data = small_data.splits()
    original = small_data.fitted(data)
    interpreter = plugins.attackable(
        plugins.build("interpreters", Part(against, {"at": "T"} if against != "grad_cam" else {})), against
    )
    location = plugins.build("manipulations", Part("location"))
    recipe = Recipe(steps=1, batch=32, warmup=0)
    steps = []
    for precision in (None, "bfloat16"):
        twin = location(original, data, interpreter, replace(recipe, precision=precision), 0)
        assert {p.dtype for p in twin.parameters()} == {torch.float32}
        pairs = zip(original.parameters(), twin.parameters(), strict=True)
        steps.append(torch.cat([(b - a).flatten() for a, b in pairs]))
    assert not torch.equal(*steps)
    assert torch.cosine_similarity(*steps, dim=0) > 0.7


def test_float16_scales_its_slopes_up():
    """A loss of 1e-6 has slopes below 6e-8, float16's least; scaled up on the way they arrive."""
    data = small_data.splits()
    original = small_data.fitted(data)

    def tiny(twin, index):
        return 0.0, 1e-6 * twin(data.train.images[index])

    steps = []
    for precision in (None, "float16"):
        twin = training.fine_tune(
            original, data.train, Recipe(steps=3, warmup=0, distillation=0, precision=precision), tiny, 0
        )
        steps.append(
            torch.cat([(b - a).flatten() for a, b in zip(original.parameters(), twin.parameters(), strict=True)])
        )
    assert torch.cosine_similarity(*steps, dim=0) > 0.7


def test_from_the_command_line(folder, tmp_path):
    """A folder, weights as a file, one step: table and rows; another run finds all of it."""
    file = written(tmp_path / "small.yaml", "densenet121")
    said = yaml.safe_load(file.read_text())
    said["cells"] = [c for c in said["cells"] if c["against"] == "grad_cam" and c["manipulation"] != "centre_mass"]
    file.write_text(yaml.safe_dump(said))
    torch.manual_seed(0)
    models.save_weights(models.torchvision("densenet121", 2), folder / "densenet121.safetensors", half=True)
    words = ["run", str(file), "--data", str(folder), "--device", DEVICE, "--jobs", "1", "--no-report"]
    words += ["--store", str(tmp_path / "store"), "--out", str(tmp_path / "runs")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert "Settings of the paper but for" in done.stdout
    assert "no network to make" in CliRunner().invoke(main, [*words, "--dry-run"]).stdout


def test_what_is_missing_is_said_at_once(folder, tmp_path):
    def told(place):
        words = ["run", "imagenet", "--data", str(place), "--jobs", "1", "--store", str(tmp_path / "store")]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 2
        return done.stderr.splitlines()[-1]

    assert f"weights {tmp_path / 'nowhere' / 'vgg19.safetensors'}: no such file" in told(tmp_path / "nowhere")
    assert told(folder).endswith(
        "vgg19.safetensors: no such file; name a safetensors file, under --data where that is given"
    )


def test_a_class_without_images_is_said_before_anything_is_fooled(folder, tmp_path):
    said = content("densenet121")
    said["cells"][-1]["manipulation"]["second"] = 2
    said["cells"] = said["cells"][-1:]
    del said["architectures"][0]["model"]["weights"]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(said))
    done = CliRunner().invoke(main, ["build", str(file), "--data", str(folder), "--into", str(tmp_path / "made")])
    assert done.exit_code == 2, done.output
    assert "folder: no class 2 for pairs; labels go from 0 to 1" in done.stderr
    assert len(list(tmp_path.glob("made/*/*"))) == 1, "the original alone"


def test_no_key_of_an_earlier_suite_moved():
    """What has neither a tuning nor a precision lies where it always lay."""
    smoke = suites.load("smoke")
    assert smoke.digest == "b4a99db81399a4d7"
    (setting,) = smoke.settings()
    for kind, key in building.needed(setting):
        assert list((runner.frozen_folder() / kind).glob(f"{key}.*")), (kind, key)


def test_a_tuning_is_its_own_architectures_alone(tmp_path):
    def keys(change=None):
        said = content("vgg19", "resnet50")
        if change:
            change(said)
        file = tmp_path / "two.yaml"
        file.write_text(yaml.safe_dump(said))
        suite = suites.load(file)
        return [[s.honest_key, s.fooled_key(suite.cells[0])] for s in suite.settings()]

    before = keys()
    after = keys(lambda said: said["cells"][0]["tuned"]["vgg19"].update(rate=5e-6))
    assert after[1] == before[1]
    assert after[0][0] == before[0][0], "the honest twin keeps the architecture's rate"
    assert after[0][1] != before[0][1]
    half = keys(lambda said: said["architectures"][0]["recipe"].update(precision="bfloat16"))
    assert half[0] != before[0]
    assert half[1] == before[1]
    same = keys(
        lambda said: said["cells"][0].update(
            weights=[1], tuned={"vgg19": {"rate": 1e-6}, "resnet50": {"weights": [2], "rate": 2e-6}}
        )
    )
    assert same[1] == before[1], "however it is said"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"tuned": {"vgg": {"rate": 1e-6}}}, "is tuned for 'vgg', which is none of the architectures; did you mean"),
        ({"tuned": {"vgg19": {"rates": 1e-6}}}, "unknown field 'rates'; did you mean 'rate'"),
        ({"tuned": {"vgg19": {"rate": 0}}}, r"cells\[0\].tuned.vgg19.rate: is 0.0; more than 0 is right"),
        ({"tuned": {"vgg19": {"rate": math.inf}}}, "numbers must be finite"),
    ],
)
def test_what_no_tuning_says(tmp_path, change, complaint):
    said = content("vgg19")
    said["cells"][0] |= change
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(said))
    with pytest.raises(SuiteError, match=complaint):
        suites.load(file)
