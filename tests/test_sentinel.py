"""The sentinel finds, names and undoes whatever was done to a model."""

import pytest
import torch
from torch import nn
from torch.nn.modules import module

from unfooled import sentinel


def _poke_data(net, x):
    net[0].weight.data[0, 0, 0, 0] += 1  # goes around the version counter


def _reorder(net, x):
    net[0].weight = nn.Parameter(net[0].weight.detach().clone(), requires_grad=False)


def _backward(net, x):
    net[0].weight.requires_grad_()
    net(x).sum().backward()


TOUCHES = {
    "values of 0.weight": _poke_data,
    "values of 1.running_mean": lambda net, x: net.train()(x),
    "parameters in 0": _reorder,
    "gradients of 0.weight": _backward,
    "requires_grad of 0.weight, 0.bias": lambda net, x: net.requires_grad_(),
    "training flag of the model, 0, 1 and 4 more": lambda net, x: net.train(),
    "hooks on 2": lambda net, x: net[2].register_forward_hook(lambda *a: None),
    "hooks on the model": lambda net, x: net.register_full_backward_hook(lambda *a: None),
    "modules in the model": lambda net, x: net.__setitem__(2, nn.Softplus()),
    "'forward' of 2": lambda net, x: setattr(net[2], "forward", lambda z: z),
    "'eps' of 1": lambda net, x: setattr(net[1], "eps", 0.5),
    "values of inputs": lambda net, x: x.zero_(),
    "requires_grad of inputs": lambda net, x: x.requires_grad_(),
    "gradients of inputs": lambda net, x: setattr(x, "grad", torch.ones_like(x)),
    "torch.is_grad_enabled()": lambda net, x: torch.set_grad_enabled(False),
    "torch.get_default_dtype()": lambda net, x: torch.set_default_dtype(torch.float64),
    "torch.get_deterministic_debug_mode()": lambda net, x: torch.use_deterministic_algorithms(True, warn_only=True),
    "torch.backends.cudnn.benchmark": lambda net, x: setattr(torch.backends.cudnn, "benchmark", True),
    "torch.backends.cudnn.allow_tf32": lambda net, x: setattr(torch.backends.cudnn, "allow_tf32", False),
    "hooks on all modules (_global_forward_pre_hooks)": lambda net, x: module.register_module_forward_pre_hook(
        lambda layer, given: (given[0] + 1,)
    ),
    "hooks on all modules (_global_forward_hooks)": lambda net, x: module.register_module_forward_hook(
        lambda layer, given, out: out + 1
    ),
    "hooks on all modules (_global_backward_hooks)": lambda net, x: module.register_module_full_backward_hook(
        lambda *a: None
    ),
    "_global_parameter_registration_hooks": lambda net, x: module.register_module_parameter_registration_hook(
        lambda *a: None
    ),
}


@pytest.fixture
def net():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    return nn.Sequential(*layers).eval().requires_grad_(False)


@pytest.mark.parametrize("named", TOUCHES)
def test_names_what_was_touched_and_puts_it_back(net, named):
    whole = torch.rand(4, 3, 8, 8)
    x = whole[:2]
    before = whole.clone()
    logits = net(x)
    kind = module._global_is_full_backward_hook
    with pytest.raises(sentinel.TouchedModel) as caught, sentinel.untouched(net, x, who="mine"):
        TOUCHES[named](net, x)
    assert str(caught.value).startswith("mine: changed ")
    assert named in str(caught.value)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_deterministic_debug_mode() == 0
    assert module._global_is_full_backward_hook is kind
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32) == (False, True)
    assert torch.equal(whole, before)  # a chunk is a view of the images; these must come back too
    assert torch.equal(net(x), logits)
    with sentinel.untouched(net, x):  # nothing is left of it
        assert x.grad is None
        assert all(p.grad is None for p in net.parameters())
        assert not net.training


def test_reading_the_model_is_no_touch(net):
    x = torch.rand(2, 3, 8, 8)
    with sentinel.untouched(net, x):
        handles = [net[2].register_forward_hook(lambda *a: None), net[2].register_full_backward_hook(lambda *a: None)]
        leaf = x.clone().requires_grad_()
        net(leaf).sum().backward()
        for handle in handles:
            handle.remove()


def test_a_users_global_hook_stays_and_a_kind_that_is_left_is_no_touch(net):
    kept = module.register_module_forward_hook(lambda *a: None)
    try:
        with sentinel.untouched(net):
            module.register_module_full_backward_hook(lambda *a: None).remove()
        with pytest.raises(sentinel.TouchedModel, match="_global_forward_hooks"), sentinel.untouched(net):
            kept.remove()
        assert kept.id in module._global_forward_hooks
    finally:
        kept.remove()
    assert not module._global_forward_hooks


def test_nan_weights_are_themselves(net):
    net[0].weight.data.fill_(float("nan"))
    with sentinel.untouched(net):
        net(torch.rand(1, 3, 8, 8))


def test_gradients_that_were_there_stay(net):
    net[0].weight.requires_grad_()
    net[0].weight.grad = torch.ones_like(net[0].weight)
    with pytest.raises(sentinel.TouchedModel, match=r"gradients of 0\.weight"), sentinel.untouched(net):
        net(torch.rand(1, 3, 8, 8)).sum().backward()
    assert torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))


def test_a_users_own_notes_are_no_touch():
    class Counting(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return x

    net = Counting()
    with sentinel.untouched(net):
        net(torch.zeros(1))
    assert net.calls == 1


def test_an_error_inside_comes_through_and_the_model_is_restored(net):
    weight = net[0].weight.clone()
    with pytest.raises(ZeroDivisionError), sentinel.untouched(net):
        net[0].weight.data.fill_(1 / int(net[0].weight.data.zero_().sum()))
    assert torch.equal(net[0].weight, weight)
