"""The doctor finds each fault, names the right check, and finds nothing where there is none."""

import functools
import time

import numpy as np
import pytest
import torch
from torch.nn.modules import module
from torch.nn.modules.module import register_module_forward_hook

from unfooled import doctor, plugins
from unfooled.baselines.smoothing import SmoothGrad
from unfooled.types import Part


def gradient(model, inputs, targets):
    leaf = inputs.clone().requires_grad_()
    return torch.autograd.grad(model(leaf)[range(len(leaf)), targets].sum(), leaf)[0]


def honest(model, inputs, targets):
    return gradient(model, inputs, targets)


def raising(model, inputs, targets):
    raise RuntimeError("no such layer\nand more")


def a_list(model, inputs, targets):
    return [1, 2, 3]


def one_map(model, inputs, targets):
    return gradient(model, inputs, targets).sum(0)[None]


def nan(model, inputs, targets):
    return gradient(model, inputs, targets).log()


def zero(model, inputs, targets):
    return 0 * gradient(model, inputs, targets)


def training(model, inputs, targets):
    model.train().eval()
    model.requires_grad_()
    model(inputs)[range(len(inputs)), targets].sum().backward()
    return gradient(model, inputs, targets)


def hooked(model, inputs, targets):
    model.register_forward_hook(lambda *a: None)
    return gradient(model, inputs, targets)


def in_place(model, inputs, targets):
    inputs.mul_(0.5)
    return gradient(model, inputs, targets)


def seeding_torch(model, inputs, targets):
    torch.manual_seed(0)
    return gradient(model, inputs + 0.1 * torch.randn(inputs.shape[1:]), targets)


def seeding_numpy(model, inputs, targets):
    np.random.seed(0)
    return gradient(model, inputs, targets)


def own_clock(model, inputs, targets):
    stream = torch.Generator().manual_seed(time.perf_counter_ns())
    return gradient(model, inputs + 0.1 * torch.randn(inputs.shape, generator=stream), targets)


def edges(model, inputs, targets):
    return inputs.diff(dim=2, prepend=inputs[:, :, :1]) * (1 + targets[:, None, None, None])


def weights_only(model, inputs, targets):
    first = next(model.parameters()).flatten()[:400].reshape(1, 20, 20)
    return (1 + targets[:, None, None]) * first


def largest(model, inputs, targets):
    return gradient(model, inputs, model(inputs).argmax(1))


def mixed(model, inputs, targets):
    drawn = gradient(model, inputs, targets)
    return drawn + drawn.mean(0)


class Remembering:
    def __init__(self):
        self.seen = {}

    def __call__(self, model, inputs, targets):
        maps = []
        for image, target in zip(inputs, targets, strict=True):
            key = image.numpy().tobytes(), int(target)
            if key not in self.seen:
                self.seen[key] = gradient(model, image[None], target[None])[0]
            maps.append(self.seen[key])
        return torch.stack(maps)


class Hoarding:
    def __init__(self):
        self.kept = []

    def __call__(self, model, inputs, targets):
        self.kept.append(gradient(model, inputs, targets))
        return self.kept[-1]


def detached(model, inputs, targets, create_graph=False):
    return gradient(model, inputs, targets).detach()


class Declared:
    family = "gradients"

    def __init__(self, signed=True, stochastic=True):
        self.signed, self.stochastic = signed, stochastic

    def __call__(self, model, inputs, targets):
        return gradient(model, inputs + 0.01 * torch.randn_like(inputs), targets)


def leaving(model, inputs, targets):
    raise SystemExit(0)


def two_arguments(model, inputs):
    return inputs


class Module(torch.nn.Module):
    def forward(self, model, inputs):
        return inputs


def changed(how):
    """The gradient, answered in another form."""
    return lambda model, inputs, targets: how(gradient(model, inputs, targets))


def hooked_everywhere(model, inputs, targets):
    register_module_forward_hook(lambda *a: None)
    return gradient(model, inputs, targets)


def deterministic(model, inputs, targets):
    torch.use_deterministic_algorithms(True)
    return gradient(model, inputs, targets)


def seeding_afresh(model, inputs, targets):
    torch.seed()
    np.random.seed()
    return gradient(model, inputs, targets)


class Blending:
    """Some of the map first seen, the rest of the true one."""

    def __init__(self, share):
        self.share, self.seen = share, {}

    def __call__(self, model, inputs, targets):
        maps = gradient(model, inputs, targets).numpy()
        keys = [(image.numpy().tobytes(), int(target)) for image, target in zip(inputs, targets, strict=True)]
        first = np.stack([self.seen.setdefault(key, m.copy()) for key, m in zip(keys, maps, strict=True)])
        return self.share * first + (1 - self.share) * maps


def class_alone(model, inputs, targets):
    """Sees of the model which class it predicts, and nothing else."""
    right = model(inputs).argmax(1) == targets
    return inputs * (1 + targets + 7 * right)[:, None, None, None]


FAULTS = {
    "raises": (raising, {"shapes"}, "raised RuntimeError: no such layer"),
    "a list": (a_list, {"shapes"}, "answered with list"),
    "one map for all": (one_map, {"shapes"}, "answered (1, 3, 32, 32) for 4 images"),
    "nan": (nan, {"finite"}, "4 of 4 maps hold NaN"),
    "zero": (zero, {"says something"}, "all maps are constant"),
    "gradients left": (training, {"leaves model"}, "gradients of"),
    "a hook left": (hooked, {"leaves model"}, "hooks on the model"),
    "inputs changed": (in_place, {"leaves model"}, "values of inputs"),
    "seeds torch": (seeding_torch, {"random state"}, "seeds the global stream of torch"),
    "seeds numpy": (seeding_numpy, {"random state"}, "seeds the global stream of numpy"),
    "a stream nobody can set": (own_clock, {"same seed"}, "the same question got another map"),
    "no model": (edges, {"looks at model"}, "the same map for another network"),
    "no input": (weights_only, {"looks at input"}, "the same map for other images"),
    "no target": (largest, {"looks at target"}, "the same map for another target"),
    "batch mean": (mixed, {"batches"}, "in another batch, maps differ"),
    "remembers": (Remembering(), {"forgets", "memory"}, "gets 100 % of the map of the model it was seen with"),
    "hoards": (Hoarding(), {"memory"}, "KiB of tensors more after every call"),
    "no graph": (detached, {"attackable"}, "without a graph to the weights"),
    "exits": (leaving, {"shapes"}, "raised SystemExit: 0"),
    "two arguments": (two_arguments, {"shapes"}, "cannot be called as (model, inputs, targets): "),
    "a module of two arguments": (Module(), {"shapes"}, "cannot be called as (model, inputs, targets): "),
    "channels last": (changed(lambda m: m.permute(0, 2, 3, 1)), {"shapes"}, "answered (4, 32, 32, 3) for 4 images"),
    "flattened": (changed(lambda m: m.flatten(2)), {"shapes"}, "maps of 3 × 1024 have another aspect"),
    "half the image": (changed(lambda m: m[:, :, :16]), {"shapes"}, "maps of 16 × 32 have another aspect"),
    "channels first of all": (changed(lambda m: m.transpose(0, 1)), {"shapes"}, "answered (3, 4, 32, 32) for 4 images"),
    "complex": (changed(torch.fft.fft2), {"shapes"}, "answered with complex numbers"),
    "objects": (changed(lambda m: m.numpy().astype(object)), {"shapes"}, "an array of object that torch cannot read"),
    "no data": (changed(lambda m: m.to("meta")), {"shapes"}, "answered on the device meta"),
    "one image squeezed": (changed(lambda m: m.squeeze(0)), {"batches"}, "answered (3, 32, 32) for 1 images"),
    "a hook on all modules": (hooked_everywhere, {"leaves model"}, "hooks on all modules (_global_forward_hooks)"),
    "determinism": (deterministic, {"leaves model"}, "torch.get_deterministic_debug_mode()"),
    "seeds afresh": (seeding_afresh, {"random state"}, "leaves the global stream of torch, numpy elsewhere"),
    "remembers much": (Blending(0.9), {"forgets"}, "gets 90 % of the map"),
    "hears the prediction alone": (class_alone, {"past prediction"}, "another network that predicts the same class"),
    "not said to be stochastic": (Declared(stochastic=False), {"declares"}, "another seed gives another map"),
    "not said to be signed": (Declared(signed=False), {"declares"}, "some values are negative"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_by_its_check_and_no_other(fault):
    interpreter, expected, said = FAULTS[fault]
    findings = doctor.examine(interpreter)
    assert {f.check for f in findings if f.status == "failed"} == expected
    assert said in "\n".join(f.seen for f in findings if f.status == "failed")
    assert all(f.advice for f in findings if f.status == "failed")
    assert doctor.failed(findings)


@pytest.mark.parametrize(
    "interpreter", [honest, functools.partial(honest), Declared()], ids=["function", "partial", "class"]
)
def test_an_honest_interpreter_is_fit(interpreter):
    findings = doctor.examine(interpreter, "mine")
    assert not doctor.failed(findings)
    assert [f.check for f in findings] == [*doctor.VITAL, *doctor.FURTHER]
    assert doctor.as_text(findings, "mine").startswith("mine\n  ok      shapes")
    assert doctor.as_text(findings, "mine").endswith("fit to be run")


def test_noise_drawn_from_an_image_is_not_taken_for_a_memory():
    def hashed(model, inputs, targets):
        streams = [torch.Generator().manual_seed(hash(image.numpy().tobytes()) % 2**31) for image in inputs]
        noise = torch.stack([torch.randn(inputs.shape[1:], generator=stream) for stream in streams])
        return gradient(model, inputs + 0.1 * noise, targets)

    findings = doctor.examine(hashed)
    assert not doctor.failed(findings), doctor.as_text(findings, "hashed")


def test_what_it_declares_not_is_suggested():
    said = {f.check: f for f in doctor.examine(honest)}
    assert said["declares"].status == "note"
    kinds = "gradients or activations or propagation or perturbation or other"
    assert f"family = {kinds}, signed = True, stochastic = False" in said["declares"].advice
    assert {f.check: f for f in doctor.examine(Declared())}["batches"].status == "note"


@pytest.mark.parametrize("name", ["simple_grad", "grad_cam", "occlusion", "captum:Saliency"])
def test_ours_are_fit(name):
    findings = doctor.examine(plugins.build("interpreters", Part(name)), name)
    assert not doctor.failed(findings), doctor.as_text(findings, name)


@pytest.mark.parametrize(
    "name", ["constant", "centre_blob", "brightness", "sobel", "gated_edges", "random_map", "memoiser"]
)
def test_no_canary_is_fit(name):
    assert doctor.failed(doctor.examine(plugins.build("interpreters", Part(name)), name))


def test_nothing_is_left_behind():
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(2), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    doctor.examine(seeding_torch)
    assert torch.equal(torch.rand(2), expected[0])
    assert np.random.rand() == expected[1]
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("first", "later", "examined"),
    [
        (1.0, 1.0, {"leaves model", "looks at model", "batches", "same seed", "random state", "forgets", "declares"}),
        (3.5, 3.5, {"leaves model", "looks at model"}),
        (9.0, 9.0, {"leaves model"}),
        (3.0, 0.01, {*doctor.FURTHER}),
    ],
    ids=["slow", "slower", "too slow", "slow to start"],
)
def test_a_slow_one_is_examined_as_far_as_time_allows(monkeypatch, first, later, examined):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def slow(model, inputs, targets):
        now[0] += later if now[0] else first
        return gradient(model, inputs, targets)

    findings = doctor.examine(slow)
    assert {f.check for f in findings} - {"speed"} == {*doctor.VITAL} | examined
    assert now[0] <= max(first, doctor.PATIENCE)
    text = doctor.as_text(findings, "slow")
    if left := [name for name in doctor.FURTHER if name not in examined]:
        assert f"not examined whole, no time was left for: {', '.join(left)}" in findings[-1].seen
        assert text.endswith("nothing failed, but it was not examined whole")
    else:
        assert text.endswith("fit to be run")
    assert not doctor.failed(findings)


def test_a_faulty_slow_one_fails_and_is_not_examined_whole():
    findings = [doctor.Finding("batches", "failed", "maps differ"), doctor.Finding("speed", "note", "a call takes 1 s")]
    assert doctor.as_text(findings, "x").endswith("1 of 1 checks failed, but it was not examined whole")


@pytest.mark.parametrize(("dtype", "failing"), [(torch.float16, set()), (torch.float32, {"batches"})])
def test_rounding_is_judged_by_the_numbers_that_are_answered(dtype, failing):
    def drifting(model, inputs, targets):
        return ((1 + 2e-4 * len(inputs)) * gradient(model, inputs, targets)).to(dtype)

    assert {f.check for f in doctor.examine(drifting) if f.status == "failed"} == failing


def test_an_answer_in_the_same_memory_every_time_is_read_at_once():
    memory = {}

    def thrifty(model, inputs, targets):
        held = memory.setdefault(len(inputs), np.empty(inputs.shape, np.float32))
        held[:] = gradient(model, inputs, targets).numpy()
        return held

    findings = doctor.examine(thrifty)
    assert not doctor.failed(findings), doctor.as_text(findings, "thrifty")


def test_a_wrapper_of_what_cannot_be_attacked_is_fit():
    found = {
        f.check: f for f in doctor.examine(SmoothGrad(of=Declared(stochastic=True), samples=2), "smoothgrad(of=x)")
    }
    assert not doctor.failed(list(found.values()))
    assert found["attackable"].status == "note"
    assert found["attackable"].seen.startswith("wraps Declared, which has no create_graph: no model can be fooled")


def test_nothing_is_left_behind_where_attacked():
    def hooking(model, inputs, targets, create_graph=False):
        if create_graph:
            register_module_forward_hook(lambda *a: None)
        return gradient(model, inputs, targets)

    doctor.examine(hooking)
    assert not module._global_forward_hooks


def test_arguments_are_named_where_an_interpreter_raises():
    (finding,) = doctor.examine(raising, "mine:raising(level=abc)")
    assert finding.advice.endswith(", and at the arguments of mine:raising(level=abc)")
    (finding,) = doctor.examine(raising, "mine:raising")
    assert "arguments" not in finding.advice


def test_a_table_puts_advice_below():
    finding = doctor.Finding("finite", "failed", "1 of 3 maps hold NaN", "guard divisions")
    lines = doctor.as_text([finding], "mine").splitlines()
    assert [line.strip() for line in lines] == [
        "mine",
        "failed  finite          1 of 3 maps hold NaN",
        "→ guard divisions",
        "1 of 1 checks failed",
    ]
