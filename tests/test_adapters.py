"""Other libraries' methods through the adapters give what the libraries give, and leave nothing behind."""

import copy
import pickle
import sys
import types

import captum.attr
import elsewhere
import numpy as np
import pytest
import torch
from elsewhere import DEVICE
from torch.nn import functional as F

from unfooled import models, plugins, seeding, sentinel
from unfooled.baselines import adapters, zennit_adapter
from unfooled.baselines.zennit_adapter import _fed_by
from unfooled.types import Part, UnknownPart

NOISY_SALIENCY = Part("captum:Saliency", {"abs": False})
INSTALLED = [
    Part("captum:IntegratedGradients", {"n_steps": 4}),
    Part("captum:GradientShap", {"baselines": 0.5, "stdevs": 0.1}),
    Part("captum:DeepLift", {"baselines": 0.5}),
    Part("captum:DeepLiftShap", {"baselines": 0.5}),
    Part("captum:LRP"),
    Part("captum:GuidedBackprop"),
    Part("captum:LayerGradCam", {"relu_attributions": True}),
    Part("captum:LayerDeepLift", {"layer": "T"}),
    Part("captum:GuidedGradCam"),
    Part("captum:LayerActivation"),
    Part("captum:FeatureAblation", {"feature_mask": 4}),
    Part("captum:Occlusion", {"sliding_window_shapes": [3, 16, 16], "strides": [3, 16, 16]}),
    Part("captum:NoiseTunnel", {"inner": NOISY_SALIENCY, "nt_samples": 2, "stdevs": 0.1}),
    Part("captum:NoiseTunnel", {"inner": Part("captum:GradientShap", {"baselines": 0.5}), "nt_samples": 2}),
    Part("captum:NoiseTunnel", {"inner": Part("captum:IntegratedGradients", {"baselines": 0.5, "n_steps": 2})}),
    Part("zennit:EpsilonPlusFlat"),
    Part("zennit:EpsilonGammaBox", {"low": -2.0, "high": 2.0}),
    Part("zennit:guided_backprop"),
]
OPTIONAL = [
    Part("pytorch_grad_cam:GradCAM"),
    Part("pytorch_grad_cam:HiResCAM", {"layer": "network.layer3"}),
    Part("pytorch_grad_cam:AblationCAM"),
    Part("shap:GradientExplainer", {"nsamples": 8}),
    Part("shap:DeepExplainer", {"background": [0.25, 0.75]}),
    Part("lime:LimeImageExplainer", {"num_samples": 30}),
    Part("captum:KernelShap", {"feature_mask": 4, "n_samples": 20}),
    Part("captum:Lime", {"feature_mask": 4, "n_samples": 20}),
    Part("quantus:Saliency"),
    Part("quantus:IntegratedGradients", {"baseline": 0.5, "reduce_axes": [1], "keepdims": False}),
    Part("quantus:Occlusion", {"window": [3, 16, 16]}),
    Part("quantus:test_adapters.on_arrays", {"power": 2}),
    Part("quantus:test_adapters:on_arrays", {"power": 2}),
]
NEEDS = {"pytorch_grad_cam": "pytorch_grad_cam", "shap": "shap", "lime": "lime", "captum": "sklearn"}


def on_arrays(model, inputs, targets, power, device="cpu"):
    """A function as Quantus takes it."""
    assert isinstance(inputs, np.ndarray)
    assert isinstance(targets, np.ndarray)
    leaf = torch.tensor(inputs, device=device, requires_grad=True)
    model(leaf)[range(len(inputs)), targets].sum().backward()
    model.train()  # and fills .grad: the copy's
    return leaf.grad.abs().sum(1).pow(power).numpy()


def open_ended(model, inputs, targets, power, **others):
    return on_arrays(model, inputs, targets, power)


def test_a_function_of_any_arguments_is_given_them():
    made = plugins.build("interpreters", Part("quantus:test_adapters:open_ended", {"power": 1, "strength": 2}))
    assert made.arguments == {"power": 1, "strength": 2}


@pytest.fixture(scope="module")
def nets():
    with seeding.forked("adapters"):
        return {n: getattr(models, n)(5).eval().requires_grad_(False) for n in ("vgg", "resnet", "densenet")}


@pytest.fixture(scope="module")
def x():
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def y():
    return torch.tensor([2, 0, 4])


def asked(interpreter, net, x, y, seed=0):
    with seeding.forked("adapters", seed), sentinel.untouched(net, x, y):
        return torch.as_tensor(interpreter(net, x, y))


@pytest.mark.parametrize("part", INSTALLED + OPTIONAL, ids=lambda p: p.label)
def test_contract(part, nets, x, y):
    if part in OPTIONAL and (needed := NEEDS.get(part.use.partition(":")[0])):
        pytest.importorskip(needed)
    if part.use.startswith("quantus:") and "test_adapters" not in part.use:
        pytest.importorskip("quantus")
    interpreter = plugins.build("interpreters", part)
    net = nets["resnet"]
    maps = asked(interpreter, net, x, y)
    assert maps.dim() in (3, 4)
    assert len(maps) == 3
    assert maps.isfinite().all()
    assert maps.flatten(1).std(1).max() > 0  # ReLU may silence a CAM of an untrained network
    assert not maps.requires_grad
    assert torch.equal(maps, asked(interpreter, net, x, y))
    assert plugins.trait(interpreter, "family", None) in (
        "gradients",
        "activations",
        "propagation",
        "perturbation",
        "other",
    )
    resolution = maps.shape[-1]
    if plugins.trait(interpreter, "at", "input") == "input":
        assert resolution == 32
    asked(pickle.loads(pickle.dumps(interpreter)), net, x, y)  # as a worker process gets it


@pytest.mark.parametrize("part", INSTALLED, ids=lambda p: p.label)
def test_what_an_adapter_adds_lies_where_the_model_is(part, nets, x, y):
    """The CPU's bits, on a device that is not there."""
    wanted = asked(plugins.build("interpreters", part), nets["resnet"], x, y)
    with elsewhere.present():
        far = copy.deepcopy(nets["resnet"]).to(DEVICE)
        with seeding.forked("adapters", 0):
            made = torch.as_tensor(plugins.build("interpreters", part)(far, x.to(DEVICE), y.to(DEVICE)))
        assert torch.equal(made.cpu(), wanted)


def test_integrated_gradients_are_captums(nets, x, y):
    ours = asked(adapters.captum("IntegratedGradients", n_steps=6, baselines=0.25), nets["vgg"], x, y)
    theirs = captum.attr.IntegratedGradients(nets["vgg"]).attribute(x, target=y, n_steps=6, baselines=0.25)
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["vgg", "resnet", "densenet"])
def test_layer_methods_look_at_t(nets, x, y, name):
    net, held = nets[name], []
    handle = net.get_submodule(net.target_layer).register_forward_pre_hook(lambda m, given: held.append(given[0]))
    net(x)
    handle.remove()
    assert torch.equal(asked(adapters.captum("LayerActivation"), net, x, y), held[0])
    drawn = asked(adapters.captum("LayerGradCam", layer="T"), net, x, y)
    assert drawn.shape == (3, 1, *held[0].shape[2:])
    elsewhere = adapters.captum("LayerActivation", layer="network.features.0" if name == "vgg" else "normalise")
    assert asked(elsewhere, net, x, y).shape[2] == 32
    assert (adapters.captum("LayerGradCam").at, elsewhere.at) == ("T", "input")


def test_noise_tunnel_wraps_another_method(nets, x, y):
    """Image by image from the same stream, as it is asked."""
    ours = adapters.captum("NoiseTunnel", inner="Saliency", nt_samples=3, stdevs=0.1)
    theirs, expected = captum.attr.NoiseTunnel(captum.attr.Saliency(nets["vgg"])), []
    with seeding.forked("adapters", 0):
        seed = int(torch.randint(2**31, ()))
    for i in range(3):
        with seeding.forked(seed):
            one = theirs.attribute(x[i : i + 1].clone(), target=y[i : i + 1], nt_samples=3, stdevs=0.1)
        expected.append(one.detach())
    torch.testing.assert_close(asked(ours, nets["vgg"], x, y), torch.cat(expected), rtol=1e-5, atol=1e-7)
    assert ours.family == "gradients"
    assert ours.stochastic


DRAWING = [
    Part("captum:GradientShap", {"baselines": 0.5, "stdevs": 0.1}),
    Part("captum:LayerGradientShap", {"baselines": 0.5, "stdevs": 0.1}),
    Part("captum:NoiseTunnel", {"inner": NOISY_SALIENCY, "nt_samples": 2, "stdevs": 0.1}),
    Part("captum:NoiseTunnel", {"inner": Part("captum:GradientShap", {"baselines": 0.5}), "nt_samples": 2}),
    Part("captum:Lime", {"feature_mask": 4, "n_samples": 20}),
    Part("captum:KernelShap", {"feature_mask": 4, "n_samples": 20}),
]


@pytest.mark.parametrize("part", DRAWING, ids=lambda p: p.label)
def test_what_captum_draws_does_not_depend_on_the_batch(nets, x, y, part):
    if part.use in ("captum:Lime", "captum:KernelShap"):
        pytest.importorskip("sklearn")
    interpreter = plugins.build("interpreters", part)
    together = asked(interpreter, nets["vgg"], x, y)
    alone = torch.cat([asked(interpreter, nets["vgg"], x[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-7)
    assert not torch.equal(asked(interpreter, nets["vgg"], x, y, seed=1), together)


def test_lime_is_captums_with_a_ridge(nets, x, y):
    """Captum's own default, a lasso of 0.01, answers with zeros here."""
    pytest.importorskip("sklearn")
    from captum._utils.models.linear_model import SkLearnLasso, SkLearnRidge

    given = {"feature_mask": 4, "n_samples": 30}
    ours = asked(adapters.captum("Lime", **given), nets["vgg"], x, y)
    assert ours.flatten(1).std(1).min() > 0
    assert torch.equal(
        ours, asked(adapters.captum("Lime", interpretable_model=SkLearnRidge(alpha=1.0), **given), nets["vgg"], x, y)
    )
    assert not asked(
        adapters.captum("Lime", interpretable_model=SkLearnLasso(alpha=0.01), **given), nets["vgg"], x, y
    ).any()


def normalised(net, x):
    return (x - net.normalise.mean) / net.normalise.std


def relevance(net, composite, x, y):
    from zennit.attribution import Gradient

    with Gradient(net, composite) as attributor:
        return attributor(x, F.one_hot(y, 5).to(x))[1]


def test_zennit_on_vgg_is_zennits_own_recipe(nets, x, y):
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import EpsilonPlusFlat

    net = nets["vgg"]
    composite = EpsilonPlusFlat(canonizers=[SequentialMergeBatchNorm()])
    theirs = relevance(net.network, composite, normalised(net, x), y)
    ours = asked(zennit_adapter.zennit("EpsilonPlusFlat"), net, x, y)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_zennit_on_resnet_is_its_recipe_for_torchvisions(nets, x, y):
    from zennit.composites import EpsilonPlus
    from zennit.torchvision import ResNetCanonizer

    from unfooled.blocks import projection, residual_stage
    from unfooled.vision import torchvision

    plain = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], 5)
    ours_net = nets["resnet"]
    made = {"conv1": torch.nn.Conv2d(3, 16, 3, padding=1, bias=False), "bn1": torch.nn.BatchNorm2d(16)}
    made |= {"maxpool": torch.nn.MaxPool2d(2), "fc": torch.nn.Linear(64, 5)}
    made |= {
        "layer1": residual_stage(16, 16, 1, 1, None),
        "layer2": residual_stage(16, 32, 1, 1, projection(16, 32, 1)),
    }
    made |= {"layer3": residual_stage(32, 64, 1, 2, projection(32, 64, 2))}
    made |= {"layer4": residual_stage(64, 64, 1, 1, None)}
    for name, module in made.items():
        setattr(plain, name, module)
    plain.load_state_dict(ours_net.network.state_dict())
    plain.eval()
    given = normalised(ours_net, x)
    torch.testing.assert_close(plain(given).detach(), ours_net(x), rtol=1e-4, atol=1e-5)
    theirs = relevance(plain, EpsilonPlus(canonizers=[ResNetCanonizer()]), given, y)
    ours = asked(zennit_adapter.zennit("EpsilonPlus"), ours_net, x, y)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_batch_norms_are_paired_with_what_feeds_them(nets, x):
    from copy import deepcopy

    pairs = dict(map(reversed, _fed_by(deepcopy(nets["densenet"]), x[:1])))
    assert pairs["network.features.norm0"] == "network.features.conv0"
    layer = "network.features.denseblock1.denselayer1"
    assert pairs[f"{layer}.norm2"] == f"{layer}.conv1"
    # these normalise a concatenation, whatever layer stands before them in the list of modules
    assert not {f"{layer}.norm1", "network.features.norm5"} & pairs.keys()


@pytest.mark.parametrize(
    ("use", "arguments", "said"),
    [
        ("captum:IntegratedGradient", {}, "captum: no 'IntegratedGradient'; did you mean 'IntegratedGradients'?"),
        ("captum:IntegratedGradients", {"n_step": 3}, "no argument 'n_step'; did you mean 'n_steps'?"),
        ("captum:IntegratedGradients", {"target": 1}, "no argument 'target'"),
        ("captum:Saliency", {"layer": "T"}, "looks at no layer"),
        ("captum:Occlusion", {}, "sliding_window_shapes must be given"),
        ("captum:NoiseTunnel", {}, "inner is the method of captum"),
        ("captum:NeuronGradient", {}, "no 'NeuronGradient'"),
        ("zennit:EpsilonPlusFlatt", {}, "did you mean 'EpsilonPlusFlat'?"),
        ("zennit:EpsilonPlus", {"gamma": 1}, "no argument 'gamma'"),
        ("quantus:test_adapters.on_array", {}, "did you mean 'on_arrays'?"),
        ("captum:Lrp", {}, "captum: no 'Lrp'; did you mean 'LRP'?"),
        ("captum:", {}, "interpreters: 'captum:' names nothing of captum; "),
        ("captum:Attribution", {}, "captum: no 'Attribution'"),
        ("captum:GradientAttribution", {}, "captum: no 'GradientAttribution'"),
        ("captum:PerturbationAttribution", {}, "captum: no 'PerturbationAttribution'"),
        ("captum:LayerAttribution", {}, "captum: no 'LayerAttribution'"),
        ("captum:DataLoaderAttribution", {}, "captum: no 'DataLoaderAttribution'"),
        ("captum:LayerGradCam", {"layer": 3}, "captum:LayerGradCam: layer is 3; 'T' or the dotted path of a module"),
        ("captum:NoiseTunnel", {"inner": Part("grad_cam")}, "inner is the method of captum"),
        ("zennit:Composite", {}, "zennit: no 'Composite'"),
        ("zennit:MixedComposite", {}, "zennit: no 'MixedComposite'"),
        ("zennit:epsilonplus", {}, "zennit: no 'epsilonplus'; did you mean 'EpsilonPlus'?"),
        ("quantus:test_adapters.on_arrays", {}, "quantus:test_adapters.on_arrays: power must be given"),
        ("quantus:test_adapters:on_arrays", {"powr": 2}, "no argument 'powr'; did you mean 'power'?"),
        ("quantus:test_adapters.on_arrays", {"power": 2, "inputs": 1}, "no argument 'inputs'"),
        ("quantus:test_adapters.open_ended", {"strength": 1}, "quantus:test_adapters.open_ended: power must be given"),
        ("quantus:test_adapters.asked", {}, "takes no inputs and no model and no targets; a function (model, inputs, "),
    ],
)
def test_what_does_not_exist_is_refused_when_built(use, arguments, said):
    with pytest.raises(UnknownPart) as caught:
        plugins.build("interpreters", Part(use, arguments))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("method", "arguments", "said"),
    [
        ("IntegratedGradients", {"n_steps": 500}, "no argument 'n_steps'"),
        ("IntegratedGradients", {"xai_lib_kwargs": {"n_steps": 500}}, "xai_lib_kwargs: no argument 'n_steps'"),
        ("IntegratedGradients", {"window": 3}, "no argument 'window'"),
        ("Saliency", {"xai_lib": "zennit"}, "no argument 'xai_lib'"),
        ("Occlusion", {"xai_lib_kwargs": {}}, "no argument 'xai_lib_kwargs'"),
        ("LayerGradCam", {"gc_layer": "print()"}, "no 'LayerGradCam'"),
        ("saliency", {}, "quantus: no 'saliency'; did you mean 'Saliency'?"),
    ],
)
def test_what_quantus_would_pass_over_in_silence_is_refused(monkeypatch, method, arguments, said):
    """Before any of its code is asked, so a stand-in does."""
    monkeypatch.setitem(sys.modules, "quantus", types.SimpleNamespace(explain=None))
    with pytest.raises(UnknownPart) as caught:
        plugins.build("interpreters", Part(f"quantus:{method}", arguments))
    assert said in str(caught.value)


def test_a_wrong_layer_is_named(nets, x, y):
    with pytest.raises(UnknownPart, match=r"no layer 'network\.feature'; did you mean 'network\.features'\?"):
        asked(adapters.captum("LayerActivation", layer="network.feature"), nets["vgg"], x, y)
    with pytest.raises(UnknownPart, match="names no T"):
        asked(adapters.captum("LayerGradCam"), nets["vgg"].network, x, y)


@pytest.mark.parametrize(
    ("use", "module", "package"),
    [
        ("captum:Saliency", "captum.attr", "captum"),
        ("captum:Lime", "sklearn", "scikit-learn"),
        ("captum:KernelShap", "sklearn", "scikit-learn"),
        ("zennit:EpsilonPlus", "zennit.composites", "zennit"),
        ("pytorch_grad_cam:GradCAM", "pytorch_grad_cam", "grad-cam"),
        ("shap:DeepExplainer", "shap", "shap"),
        ("lime:LimeImageExplainer", "lime.lime_image", "lime"),
        ("quantus:Saliency", "quantus", "quantus"),
    ],
)
def test_a_missing_library_is_one_clear_line(monkeypatch, use, module, package):
    for name in {module, module.partition(".")[0]}:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnknownPart) as caught:
        plugins.build("interpreters", Part(use))
    assert str(caught.value) == f'{use}: needs {package}, which is not installed; pip install "unfooled[interop]"'


def test_grad_cam_gets_one_target_an_image_and_hides_no_error(nets, x, y):
    pytest.importorskip("pytorch_grad_cam")
    grad_cam, net = plugins.build("interpreters", Part("pytorch_grad_cam:GradCAM")), nets["vgg"]
    drawn = asked(grad_cam, net, x, y)
    torch.testing.assert_close(drawn[2:], asked(grad_cam, net, x[2:], y[2:]), rtol=1e-3, atol=1e-3)
    ours = asked(adapters.captum("LayerGradCam", relu_attributions=True), net, x, y)
    large = F.interpolate(ours, (32, 32), mode="bilinear")[:, 0]
    for one, other in zip(drawn.flatten(1), large.flatten(1), strict=True):
        assert np.corrcoef(one, other)[0, 1] > 0.999
    with pytest.raises(IndexError):
        asked(grad_cam, net, x, torch.tensor([0, 1, 99]))


def test_shap_values_add_up(nets, x, y):
    pytest.importorskip("shap")
    deep = plugins.build("interpreters", Part("shap:DeepExplainer"))
    fall = (nets["vgg"](x) - nets["vgg"](torch.full_like(x, 0.5)))[range(3), y]
    torch.testing.assert_close(asked(deep, nets["vgg"], x, y).sum((1, 2, 3)), fall.double(), rtol=1e-2, atol=1e-4)
