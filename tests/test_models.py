"""Networks: small, taken apart, differentiable twice; T where it should be; weights that fit or say what does not."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from unfooled import models, seeding
from unfooled.types import DataError, UnfooledError, UnknownPart
from unfooled.vision import torchvision

DATA = Path(__file__).parents[2] / "shared" / "data"
SMALL = ("vgg", "resnet", "densenet")
OURS = (*SMALL, "resnet20")
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU)


def made(name: str, words: str = "a") -> nn.Module:
    with seeding.forked("test_models", words):
        return getattr(models, name)().eval()


def images(count: int = 4, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=seeding.generator("test_models images"))


def traffic(model: nn.Module, inputs: torch.Tensor) -> tuple[Counter, list[torch.Tensor]]:
    """How often each activation ran in one forward pass, and what entered the target layer."""
    runs, at_target = Counter(), []
    for name, module in model.named_modules():
        if isinstance(module, ACTIVATIONS):
            module.register_forward_hook(lambda _m, _a, _o, name=name: runs.update([name]))
    models.target_module(model).register_forward_pre_hook(lambda _m, arguments: at_target.extend(arguments))
    with torch.no_grad():
        model(inputs)
    return runs, at_target


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_have_about_150_thousand_parameters(name):
    count = sum(p.numel() for p in made(name).parameters())
    assert 120_000 <= count <= 230_000


@pytest.mark.parametrize("name", OURS)
def test_every_activation_is_a_module_that_runs_once_and_t_is_one_tensor_of_8_by_8(name):
    model = made(name)
    runs, at_target = traffic(model, images())
    activations = [n for n, m in model.named_modules() if isinstance(m, nn.ReLU)]
    assert runs == dict.fromkeys(activations, 1)
    assert len(at_target) == 1
    assert isinstance(at_target[0], torch.Tensor)
    assert min(at_target[0].shape[2:]) >= 8


@pytest.mark.parametrize("name", OURS)
def test_no_relu_hides_outside_of_modules(name):
    """With every ReLU module replaced by the identity and no pooling of maxima, the network must be affine."""
    model = made(name).double()
    for module in list(model.modules()):
        for child_name, child in list(module.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(module, child_name, nn.Identity())
            elif isinstance(child, nn.MaxPool2d):
                setattr(module, child_name, nn.AvgPool2d(2))
    a, b = images().double(), images().double().flip(0)
    with torch.no_grad():
        torch.testing.assert_close(model((a + b) / 2), (model(a) + model(b)) / 2, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", OURS)
def test_an_input_gradient_can_be_differentiated_by_the_weights(name):
    model = made(name)
    inputs = images().requires_grad_()
    (gradient,) = torch.autograd.grad(model(inputs)[:, 1].sum(), inputs, create_graph=True)
    gradient.square().sum().backward()
    seen = [p.grad for p in model.parameters() if p.grad is not None]
    convolutions = [m.weight.grad for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert all(g.isfinite().all() for g in seen)
    assert all(g is not None and g.abs().max() > 0 for g in convolutions)


@pytest.mark.parametrize("name", OURS)
def test_initial_weights_depend_on_the_stream_alone(name):
    one, same, other = made(name), made(name), made(name, "b")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not any(p.is_meta for p in [*one.parameters(), *one.buffers()])


def test_images_are_normalised_inside():
    model = made("resnet20")
    x = images()
    mean, std = (torch.tensor(v)[:, None, None] for v in (models.IMAGENET_MEAN, models.IMAGENET_STD))
    with torch.no_grad():
        torch.testing.assert_close(model(x), model.network((x - mean) / std), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_head_has_as_many_outputs_as_classes(name):
    assert getattr(models, name)(num_classes=3).eval()(images()).shape == (4, 3)


# resnet18 and a deeper block, a dense network, and two whose ReLUs torchvision writes as functions in place
@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet18", 64), ("resnet50", 64), ("densenet121", 64), ("googlenet", 64), ("squeezenet1_1", 64)],
)
def test_torchvision_networks_compute_what_torchvision_computes(name, size):
    """Same weights, same logits: float32 sums in another memory layout differ by rounding alone."""
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    theirs = torchvision.models.get_model(name, weights=None, num_classes=7, **options).eval()
    ours = models.torchvision(name, num_classes=7, mean=(0, 0, 0), std=(1, 1, 1)).eval()
    ours.network.load_state_dict(theirs.state_dict())
    x = images(2, size)
    with torch.no_grad():
        expected = theirs(x)
        torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert not any(getattr(m, "inplace", False) for m in ours.modules())
    runs, at_target = traffic(ours, x)
    assert set(runs.values()) == {1}
    assert len(at_target) == 1


@pytest.mark.parametrize(
    ("name", "layer"),
    [("resnet50", "layer4.2"), ("densenet121", "features.denseblock4.denselayer16"), ("vgg19", "features.34")],
)
def test_t_is_the_papers(name, layer):
    """Heo et al. 2019: the input of VGG19's conv5_4, ResNet50's last bottleneck, DenseNet121's last dense layer."""
    with torch.device("meta"):
        assert models.torchvision(name).target_layer == f"network.{layer}"


def test_t_can_be_named():
    assert models.torchvision("resnet18", target_layer="layer3.1").target_layer == "network.layer3.1"


def test_unknown_classifier_and_layer_are_named_with_their_near_miss():
    with pytest.raises(
        UnknownPart, match=r"^models: torchvision has no classifier 'resnt18'; did you mean 'resnet18'\?$"
    ):
        models.torchvision("resnt18")
    with pytest.raises(UnknownPart, match=r"no classifier 'qqq'; it would be one of"):
        models.torchvision("qqq")
    with pytest.raises(UnknownPart, match=r"no layer 'layer4.7' for T; did you mean 'layer4"):
        models.torchvision("resnet18", target_layer="layer4.7")


def test_a_model_that_names_no_t_gets_its_last_convolution_or_a_word():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten())
    assert models.target_module(plain) is plain[2]
    plain.target_layer = "0"
    assert models.target_module(plain) is plain[0]
    with pytest.raises(
        UnfooledError, match=r"^model Linear: names no T and has no Conv2d; set its attribute target_layer"
    ):
        models.target_module(nn.Linear(2, 2))


@pytest.mark.parametrize("name", OURS)
def test_weights_come_back_bit_for_bit(name, tmp_path):
    model, fresh = made(name), made(name, "b")
    model.train()(images(8))  # so that running statistics are not those of a fresh network
    models.save_weights(model, tmp_path / "w.safetensors")
    models.load_weights(fresh, tmp_path / "w.safetensors")
    assert all(torch.equal(fresh.state_dict()[key], value) for key, value in model.state_dict().items())


def test_half_weights_are_rounded_once_and_statistics_not_at_all(tmp_path):
    """float16 keeps 11 bits: a relative error of at most 2⁻¹¹, or half of its smallest step 2⁻²⁴ near zero."""
    model, fresh, path = made("vgg"), made("vgg", "b"), tmp_path / "w.safetensors"
    model.train()(images(8))
    next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)).running_var.fill_(1e6)  # no float16
    models.save_weights(model, path, half=True)
    models.load_weights(fresh, path)
    for key, value in model.state_dict().items():
        back = fresh.state_dict()[key]
        assert back.dtype == value.dtype
        exact = "running_" in key or "num_batches" in key
        torch.testing.assert_close(back, value, rtol=0 if exact else 2**-11, atol=0 if exact else 2**-25)
    models.save_weights(fresh, tmp_path / "again.safetensors", half=True)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("prefix", ["network.", "module.", "module.network."])
def test_prefixes_of_wrappers_are_seen_through(prefix, tmp_path):
    model, fresh = made("vgg"), made("vgg", "b")
    state = {prefix + key: value.contiguous() for key, value in model.network.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    models.load_weights(fresh, tmp_path / "w.safetensors")
    assert torch.equal(fresh(images()), model(images()))


def misfits(tmp_path: Path, change) -> str:
    """What load_weights says of ResNet-20's weights after a change, which must leave the model alone."""
    path = tmp_path / "w.safetensors"
    models.save_weights(made("resnet20"), path)
    state = load_file(path)
    change(state)
    save_file(state, path)
    model = made("resnet20", "b")
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(DataError) as raised:
        models.load_weights(model, path)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert "\n" not in str(raised.value)
    return str(raised.value).removeprefix(f"weights {path}: ")


def test_weights_that_do_not_fit_say_what_would(tmp_path):
    assert misfits(tmp_path, lambda s: s.update({"linear.weight": torch.zeros(5, 64)})) == (
        "'linear.weight' has shape (5, 64); this model needs (10, 64)"
    )
    assert misfits(tmp_path, lambda s: s.pop("conv1.weight")).startswith(
        "'conv1.weight' is missing, which this model needs in shape (16, 3, 3, 3)"
    )
    renamed = misfits(tmp_path, lambda s: s.update({"fc.bias": s.pop("linear.bias")}))
    assert renamed.endswith("the file should be of the same network, and has 'fc.bias' instead")
    assert misfits(tmp_path, lambda s: s.update({"linear.bia": torch.zeros(3)})) == (
        "'linear.bia' is not in this model; did you mean 'linear.bias'?"
    )
    assert misfits(tmp_path, lambda s: s.update({"conv1.weight": s["conv1.weight"].int()})) == (
        "'conv1.weight' is torch.int32; this model needs torch.float32"
    )


def test_weights_that_are_no_weights_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"no such file; name a safetensors file"):
        models.resnet20(weights=str(tmp_path / "none.safetensors"))
    pickled = tmp_path / "w.pt"
    torch.save(made("vgg").state_dict(), pickled)
    with pytest.raises(
        DataError, match=r"cannot be read as safetensors \(.*\); write it with safetensors.torch.save_file$"
    ):
        models.load_weights(made("vgg"), pickled)


def test_torchvision_is_imported_by_making_a_network_and_by_unpickling_one_only(tmp_path):
    """It costs seconds, and a worker that unpickles a network must find the import already mended."""
    (tmp_path / "net").write_bytes(pickle.dumps(made("resnet")))
    code = (
        "import sys, pickle, unfooled.models; assert 'torchvision' not in sys.modules;"
        f"pickle.load(open({str(tmp_path / 'net')!r}, 'rb')); assert 'torchvision' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_resnet20_reaches_its_published_order_of_accuracy_on_cifar10():
    """About 82 % on this strongly compressed copy; 91.7 % on the original. 2,000 images: standard error 0.9 points."""
    parquet = pytest.importorskip("pyarrow.parquet")
    pillow = pytest.importorskip("PIL.Image")
    weights, table = DATA / "weights/cifar10_resnet20.safetensors", DATA / "cifar10/test-00000-of-00001.parquet"
    if not (weights.is_file() and table.is_file()):
        pytest.skip(f"CIFAR-10 and its ResNet-20 are not at {DATA}")
    rows = parquet.read_table(table).slice(0, 2000).to_pydict()
    pixels = np.stack([np.asarray(pillow.open(io.BytesIO(r["bytes"])).convert("RGB")) for r in rows["img"]])
    inputs, labels = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, torch.tensor(rows["label"])
    model = models.resnet20(weights=str(weights)).eval()
    with torch.no_grad():
        predicted = torch.cat([model(part).argmax(1) for part in inputs.split(250)])
    assert (predicted == labels).float().mean().item() == pytest.approx(0.82, abs=0.027)


def test_a_network_is_made_without_torchs_compiler():
    """It takes longer to import than torch, and nothing here is compiled."""
    code = "import sys; from unfooled import models; models.vgg(), models.resnet(), models.densenet(); "
    code += "assert 'torch._dynamo' not in sys.modules; from unfooled.vision import torchvision; import torch; "
    code += "boxes = torch.tensor([[0., 0, 0, 4, 4]]); "
    code += "torchvision.ops.roi_align(torch.rand(1, 1, 8, 8), boxes, 2) if torchvision.extension._has_ops() else None"
    subprocess.run([sys.executable, "-c", code], check=True)
