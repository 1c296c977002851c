"""Maps a second of our interpreters beside captum's, zennit's and pytorch-grad-cam's, and what an attack on one costs.

``python -m tests.speed.interpreters [vgg] [resnet] [densenet]`` prints both for each network. All run in this process
on one core, in turns, and the least process CPU time of several rounds counts: on a shared machine the ratios hold
better than the times. Asserts nothing.

Maps: 64 images of 32 × 32 in one batch, frozen weights, every library as its documentation calls it, batched as far as
it allows (captum's path also in chunks of 64); pytorch-grad-cam only where it is installed. ``/ bound`` is the cost
over that of the model's passes alone, measured in the same rounds: F forward, F1 forward with one image (DeepLIFT's
reference), FB forward and back to the input, FT forward and back to the activation at T. Propagation is held to FB, the
gradient's, though its rules need more convolutions; so is β-smoothing, though softplus costs more than ReLU.

Fooling: a training step of 32 images with cross-entropy and a loss on the map, against a step with cross-entropy alone.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import argparse
import copy
import importlib.util
import itertools
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unfooled import models, parallel, training
from unfooled.baselines.activations import GradCAM, GradCAMPlusPlus, GuidedGradCAM, LayerCAM, ScoreCAM
from unfooled.baselines.adapters import give_rules
from unfooled.baselines.deeplift import DeepLIFT
from unfooled.baselines.gradients import ExpectedGradients, InputXGradient, IntegratedGradients, SimpleGrad
from unfooled.baselines.hooks import activation_at_target
from unfooled.baselines.propagation import (
    LRP,
    Deconvnet,
    EpsilonPlusFlat,
    GuidedBackprop,
    LRPAlphaBeta,
    LRPEpsilon,
    LRPZPlus,
)
from unfooled.baselines.smoothing import BetaSmoothing, SmoothGrad, VarGrad

Work = Callable[[], object]
Asked = Callable[[nn.Module, Tensor, Tensor], object]


@dataclass
class Race:
    """One of ours, the passes it is bound to, and its peers."""

    ours: Asked
    bound: dict[str, float]
    """how many of F, F1, FB and FT"""
    peers: dict[str, Asked] = field(default_factory=dict)


LAST = {"vgg": "network.avgpool", "resnet": "network.avgpool", "densenet": "network.pool"}
"""What takes the last feature map, whose Grad-CAM is the usual one; T lies a block below, as in Heo et al."""


def by_captum(name: str, at_layer: bool = False, **options: object) -> Asked:
    import captum.attr

    method = getattr(captum.attr, name)
    options |= {"attribute_to_layer_input": True} if at_layer else {}

    def ask(net: nn.Module, x: Tensor, y: Tensor) -> object:
        layer = (net.get_submodule(net.target_layer),) if at_layer else ()
        return method(net, *layer).attribute(x.clone(), target=y, **options)

    return ask


def captum_noise(kind: str) -> Asked:
    import captum.attr

    def ask(net: nn.Module, x: Tensor, y: Tensor) -> object:
        tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(net))
        options = {"nt_type": kind, "nt_samples": 16, "nt_samples_batch_size": 1, "stdevs": 0.1}
        return tunnel.attribute(x.clone(), target=y, abs=False, **options)

    return ask


def zennit_net(net: nn.Module) -> nn.Module:
    """The network with its residual sums as zennit's rules see them."""
    from zennit.layer import Sum

    from unfooled.blocks import Add

    class StackedSum(nn.Module):
        def __init__(self):
            super().__init__()
            self.sum = Sum()

        def forward(self, branch: Tensor, skip: Tensor) -> Tensor:
            return self.sum(torch.stack([branch, skip], -1))

    net = copy.deepcopy(net)
    for path, module in list(net.named_modules()):
        if isinstance(module, Add):
            net.set_submodule(path, StackedSum())
    return net


def by_zennit(name: str) -> Asked:
    from zennit import attribution, composites
    from zennit.canonizers import NamedMergeBatchNorm
    from zennit.rules import Epsilon
    from zennit.types import Linear

    nets: dict[int, nn.Module] = {}

    def composite(canonizers: list) -> object:
        if name == "epsilon":
            layers = [*composites.layer_map_base(), ((Linear,), Epsilon())]
            return composites.LayerMapComposite(layers, canonizers=canonizers)
        return getattr(composites, name)(canonizers=canonizers)

    def ask(net: nn.Module, x: Tensor, y: Tensor) -> object:
        prepared = nets.setdefault(id(net), zennit_net(net))
        with attribution.Gradient(prepared, composite([NamedMergeBatchNorm(merges(prepared))])) as attributor:
            return attributor(x, lambda out: F.one_hot(y, out.shape[1]) * out.detach())[1]

    return ask


def merges(net: nn.Module) -> list[tuple[list[str], str]]:
    leaves = [(path, m) for path, m in net.named_modules() if not list(m.children())]
    return [
        ([conv], norm)
        for (conv, m), (norm, n) in itertools.pairwise(leaves)
        if isinstance(m, nn.Conv2d) and isinstance(n, nn.BatchNorm2d)
        if norm.split(".")[-1] not in ("norm", "norm1", "norm5")
    ]


def grad_cams(name: str) -> dict[str, Asked]:
    if importlib.util.find_spec("pytorch_grad_cam") is None:
        return {}
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def ask(net: nn.Module, x: Tensor, y: Tensor) -> object:
        leaf = x.clone().requires_grad_()  # its way back needs something that wants a gradient; our weights are frozen
        with getattr(pytorch_grad_cam, name)(net, [net.get_submodule(net.target_layer)]) as cam:
            return cam(leaf, [ClassifierOutputTarget(int(t)) for t in y])

    return {"pytorch-grad-cam": ask}


def races(channels: int) -> dict[str, Race]:
    one, sixteen, at_t = {"FB": 1}, {"FB": 16}, {"FT": 1}
    return {
        "simple_grad": Race(SimpleGrad(), one, {"captum": by_captum("Saliency", abs=False)}),
        "simple_grad at T": Race(SimpleGrad(at="T"), at_t),
        "input_x_gradient": Race(InputXGradient(), one, {"captum": by_captum("InputXGradient")}),
        "smoothgrad 16": Race(SmoothGrad(), sixteen, {"captum": captum_noise("smoothgrad")}),
        "vargrad 16": Race(VarGrad(), sixteen, {"captum": captum_noise("vargrad")}),
        "integrated_gradients 32": Race(IntegratedGradients(), {"FB": 32}, integrated()),
        "expected_gradients 16": Race(ExpectedGradients(), sixteen, expected()),
        "beta_smoothing": Race(BetaSmoothing(), one),
        "grad_cam": Race(GradCAM(), at_t, {"captum": by_captum("LayerGradCam", True), **grad_cams("GradCAM")}),
        "grad_cam_pp": Race(GradCAMPlusPlus(), at_t, grad_cams("GradCAMPlusPlus")),
        "layer_cam": Race(LayerCAM(), at_t, grad_cams("LayerCAM")),
        "score_cam": Race(ScoreCAM(), {"F": channels}, grad_cams("ScoreCAM")),
        "guided_grad_cam": Race(
            GuidedGradCAM(), {"FB": 1, "FT": 1, "F": -1}, {"captum": by_captum("GuidedGradCam", True)}
        ),
        "guided_backprop": Race(GuidedBackprop(), one, both("GuidedBackprop", "GuidedBackprop")),
        "deconvnet": Race(Deconvnet(), one, both("Deconvolution", "DeconvNet")),
        "deeplift": Race(DeepLIFT(), {"FB": 1, "F1": 1}, {"captum": by_captum("DeepLift")}),
        "lrp": Race(LRP(), one),
        "lrp at T": Race(LRP(at="T"), at_t),
        "lrp_epsilon": Race(LRPEpsilon(), one, {"captum": captum_lrp(), "zennit": by_zennit("epsilon")}),
        "lrp_zplus": Race(LRPZPlus(), one, {"zennit": by_zennit("EpsilonPlus")}),
        "lrp_alpha_beta": Race(LRPAlphaBeta(), one, {"zennit": by_zennit("EpsilonAlpha2Beta1")}),
        "epsilon_plus_flat": Race(EpsilonPlusFlat(), one, {"zennit": by_zennit("EpsilonPlusFlat")}),
    }


def captum_lrp() -> Asked:
    """Captum's LRP of a copy that its adapter has prepared, at the first call, which is not timed."""
    from captum.attr import LRP as CaptumLRP

    nets: dict[int, nn.Module] = {}

    def ask(net: nn.Module, x: Tensor, y: Tensor) -> object:
        if id(net) not in nets:
            nets[id(net)] = copy.deepcopy(net)
        give_rules(nets[id(net)])  # it takes them away after every map; hanging them back costs a walk over modules
        return CaptumLRP(nets[id(net)]).attribute(x.clone().requires_grad_(), target=y)

    return ask


def both(captums: str, zennits: str) -> dict[str, Asked]:
    return {"captum": by_captum(captums), "zennit": by_zennit(zennits)}


def integrated() -> dict[str, Asked]:
    chunked = by_captum("IntegratedGradients", n_steps=32, internal_batch_size=64)
    return {"captum": by_captum("IntegratedGradients", n_steps=32), "captum, chunks": chunked}


def expected() -> dict[str, Asked]:
    return {"captum": by_captum("GradientShap", baselines=torch.rand(8, 3, 32, 32), n_samples=16)}


def least(works: dict[str, Work], rounds: int) -> dict[str, float]:
    """Each work's least CPU seconds over the rounds, taken in turns."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            work()
            best[name] = min(best[name], time.process_time() - start)
    return best


def can(work: Work) -> bool:
    """Whether it runs at all (and a first, slower run)."""
    try:
        work()
    except Exception:
        return False
    return True


def passes(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Work]:
    """F, F1, FB and FT by plain torch."""

    def forward() -> None:
        with torch.no_grad():
            net(x)

    def forward_of_one() -> None:
        with torch.no_grad():
            net(x[:1])

    def by_input() -> None:
        leaf = x.detach().requires_grad_()
        torch.autograd.grad(net(leaf).gather(1, y[:, None]).sum(), leaf)

    def by_activation() -> None:
        inputs: list[Tensor] = []
        layer = net.get_submodule(net.target_layer)
        handle = layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0].requires_grad_()))
        torch.autograd.grad(net(x).gather(1, y[:, None]).sum(), inputs)
        handle.remove()

    return {"F": forward, "F1": forward_of_one, "FB": by_input, "FT": by_activation}


def channels_at_target(net: nn.Module, x: Tensor) -> int:
    with activation_at_target(net) as captured:
        net(x[:1])
    return captured.activation.shape[1]


def print_maps(name: str, net: nn.Module, rounds: int) -> None:
    x = torch.rand(64, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (64,))
    alone = least(passes(net, x, y), 2 * rounds)
    print(f"\n{name}: " + ", ".join(f"{k} {v * 1e3 / 64:.2f} ms an image" for k, v in alone.items()))
    print(f"{'':24}{'maps/s':>8}{'/ bound':>9}  against")
    for label, race in races(channels_at_target(net, x)).items():
        works = {k: (lambda a=a: a(net, x, y)) for k, a in {"ours": race.ours, **race.peers}.items()}
        works = {k: w for k, w in works.items() if k == "ours" or can(w)}
        works |= {f"_{k}": passes(net, x, y)[k] for k in race.bound}
        took = least(works, rounds if sum(race.bound.values()) < 10 else 2)
        bound = sum(count * took[f"_{k}"] for k, count in race.bound.items())
        against = ", ".join(f"{k} × {took[k] / took['ours']:.2f}" if k in took else f"{k} fails" for k in race.peers)
        print(f"{label:24}{64 / took['ours']:8.0f}{took['ours'] / bound:9.2f}  {against}")


def with_target(layer: str, interpreter: Asked) -> Asked:
    """The interpreter, asked with another T."""

    def ask(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with mock.patch.object(net, "target_layer", layer):
            return interpreter(net, x, y)

    return ask


def print_fooling(name: str, net: nn.Module, rounds: int) -> None:
    x = torch.rand(32, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (32,))
    attacked = {"grad_cam": GradCAM, "simple_grad": SimpleGrad, "lrp": LRP}
    asked = {k: a(create_graph=True) for k, a in attacked.items()}
    asked |= {f"{k} at T": attacked[k](at="T", create_graph=True) for k in ("simple_grad", "lrp")}
    asked["grad_cam of the last feature map"] = with_target(LAST[name], asked["grad_cam"])
    net = copy.deepcopy(net).requires_grad_(True)
    adam = torch.optim.Adam(net.parameters(), 1e-4)

    def step(interpreter: Asked | None) -> None:
        adam.zero_grad()
        with training.tapped(net) as seen:
            loss = interpreter(net, x, y).square().mean() if interpreter else 0
        logits = seen[0][1] if interpreter else net(x)
        (F.cross_entropy(logits, y) + loss).backward()
        adam.step()

    works = {"plain": lambda: step(None)} | {k: (lambda i=i: step(i)) for k, i in asked.items()}
    took = least(works, 2 * rounds)
    ratios = ", ".join(f"{k} × {took[k] / took['plain']:.2f}" for k in asked)
    print(f"a fooling step against a plain one of {took['plain'] * 1e3:.0f} ms: {ratios}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("networks", nargs="*", default=["vgg", "resnet", "densenet"])
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    for name in chosen.networks:
        net = getattr(models, name)(10).eval().requires_grad_(False)
        print_maps(name, net, chosen.rounds)
        with parallel.one_thread():  # as twins are made
            print_fooling(name, net, chosen.rounds)


if __name__ == "__main__":
    main()
