"""What the doctor looks for in an interpreter: one function a check, which says what it saw and what to do about it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from unfooled import maps, plugins, seeding, sentinel
from unfooled.patient import CLASSES, Patient, difference, network, pictures, pull, similarity
from unfooled.types import Family, Maps, NotAttackable

Status = Literal["ok", "failed", "note"]

REMEMBERED = 0.5
"""From here on a map is nearer to another model's than to its own. What is drawn from an image's own numbers, and so
differs between an image and almost the same one, has been seen to reach 0.16."""

Seen = tuple[Status, str] | tuple[Status, str, str]
"""Status, what was seen, and what to do about it."""


@dataclass(frozen=True)
class Check:
    """One thing to look for, and what looking costs."""

    look: Callable[[Patient], Seen]
    needs: tuple[str, ...] = ()
    """answers that several checks share; each is one call, for whichever comes first"""
    calls: int = 0
    """of its own"""

    def seconds(self, patient: Patient) -> float:
        """What it will take, as far as the calls so far tell."""
        calls = self.calls + sum(need not in vars(patient) for need in self.needs)
        return calls * patient.pace if calls else 0.0


def _shapes(patient: Patient) -> Seen:
    visit = patient.first
    n = len(visit.maps)  # raises Misfit, which the doctor reports for every check alike
    return "ok", f"{tuple(visit.raw.shape)} for {n} images, {1e3 * visit.seconds / n:.1f} ms an image"


def _finite(patient: Patient) -> Seen:
    broken = int((~np.isfinite(patient.first.maps).all((1, 2))).sum())
    if broken:
        return (
            "failed",
            f"{broken} of {len(patient.images)} maps hold NaN or infinity",
            "guard divisions and logarithms",
        )
    return "ok", "all values are finite"


def _says_something(patient: Patient) -> Seen:
    silent, n = int(maps.says_nothing(patient.first.maps).sum()), len(patient.images)
    if silent == n:
        advice = "a silent map is never ranked; look for a ReLU at its end, too strong a regulariser, gradients cut off"
        return "failed", "all maps are constant or zero", advice
    if silent:
        return "note", f"{silent} of {n} maps are constant or zero; a run counts them as silent"
    return "ok", "no map is constant"


def _leaves_model(patient: Patient) -> Seen:
    if changes := patient.first.changes:
        advice = "work on copy.deepcopy(model) and inputs.clone(), or undo it: remove hooks, clear .grad, restore flags"
        return "failed", f"changed {'; '.join(changes)}", advice
    return "ok", "weights, buffers, gradients, hooks, flags and inputs are as they were"


def _random_state(patient: Patient) -> Seen:
    """Streams that two seeds leave at one place, or one seed at two places, were seeded in between."""
    first, again, other = (v.next_draws for v in (patient.first, patient.again, patient.reseeded))
    advice = "draw from the global stream as it is, or from a torch.Generator seeded from it"
    if seeded := [name for name in first if first[name] == other[name]]:
        return "failed", f"seeds the global stream of {', '.join(seeded)}", advice
    if fresh := [name for name in first if first[name] != again[name]]:
        seen = f"leaves the global stream of {', '.join(fresh)} elsewhere every time, from the same seed"
        return "failed", seen, f"{advice}; never seed one afresh"
    return "ok", "seeds no global stream"


def _same_seed(patient: Patient) -> Seen:
    first, again = patient.first.maps, patient.again.maps
    if not patient.alike(first, again):
        advice = "draw from torch's, numpy's or random's global stream, or a generator seeded from it; keep no state"
        return "failed", f"the same question got another map ({difference(first, again)})", advice
    return "ok", "the same seed gives the same map"


def _batches(patient: Patient) -> Seen:
    """The first image alone and the others together: two calls, and every image in another company."""
    apart = [patient.ask(patient.net, patient.images[s], patient.targets[s]) for s in (slice(0, 1), slice(1, None))]
    parts = np.concatenate(apart)
    if patient.alike(patient.first.maps, parts):
        return "ok", "an image gets the same map alone as in a batch"
    if patient.stochastic:
        return "note", "stochastic, so batches are not compared; a suite's chunk size is fixed"
    advice = "treat each image by itself: one target an image, sums not means over the batch, no batch statistics"
    return "failed", f"in another batch, maps differ ({difference(patient.first.maps, parts)})", advice


def _looks_at_model(patient: Patient) -> Seen:
    advice = "it cannot tell a fooled model from an honest one; call the model that it is given, every time"
    return _moved(patient, patient.elsewhere, "another network", advice)


def _past_prediction(patient: Patient) -> Seen:
    if patient.alike(patient.first.maps, patient.elsewhere):
        return "note", "the same map for any network, whatever that predicts"
    if patient.alike(*patient.agreeing()):
        advice = "use more of the model than its prediction, which a fooled model keeps"
        return "failed", "the same map for another network that predicts the same class", advice
    return "ok", "another map for another network that predicts the same class"


def _looks_at_input(patient: Patient) -> Seen:
    other = patient.ask(patient.net, pictures("other images"), patient.targets)
    return _moved(patient, other, "other images", "the map must be of the image that is given")


def _looks_at_target(patient: Patient) -> Seen:
    other = patient.ask(patient.net, patient.images, (patient.targets + 1) % CLASSES)
    advice = "explain model(inputs)[range(n), targets], not the largest logit or the sum of all"
    return _moved(patient, other, "another target", advice)


def _moved(patient: Patient, other: Maps, what: str, advice: str) -> Seen:
    if patient.alike(patient.first.maps, other):
        return "failed", f"the same map for {what}", advice
    return "ok", f"another map for {what}"


def _forgets(patient: Patient) -> Seen:
    """The other network's map of an image seen before with the first one, against the image new to the interpreter."""
    first, unseen = patient.first.maps, patient.elsewhere
    seen = patient.ask(patient.other_net, patient.images, patient.targets)
    if patient.stochastic:  # noise, too, moves a map away from the unseen image's
        kept = float(similarity(first, seen) > 0.999 and similarity(seen, unseen) < 0.9)
    else:
        kept = 0.0 if patient.alike(seen, unseen) else pull(seen, unseen, first)
    if kept > REMEMBERED:
        advice = "keep nothing between calls: a map remembered from one model is wrong for every other"
        whole = f"{100 * kept:.0f} % of the map of the model it was seen with"
        return "failed", f"an image seen before gets {whole}", advice
    return "ok", "no map is remembered from another model"


def _memory(patient: Patient) -> Seen:
    held = []
    gc.freeze()  # whatever there is by now is not looked through again and again
    try:
        for call in range(4):
            patient.visit(patient.net, pictures(f"memory {call}", 1), patient.targets[:1])
            held.append(_tensor_bytes())
    finally:
        gc.unfreeze()
    if held[1] < held[2] < held[3]:
        advice = "keep no tensor in a field, a cache or a module's attribute; detach what you return"
        return "failed", f"{(held[3] - held[1]) / 2048:.0f} KiB of tensors more after every call", advice
    return "ok", "no call leaves tensors behind"


def _tensor_bytes() -> int:
    gc.collect()
    tensors = (t for t in gc.get_objects() if issubclass(type(t), Tensor))
    return sum(t.numel() * t.element_size() for t in tensors)


def _attackable(patient: Patient) -> Seen:
    net = network("original").requires_grad_()
    before = sentinel.snapshot(net)
    try:
        attacked = plugins.attackable(patient.interpreter, patient.label)
        with seeding.forked("doctor", "first"):
            drawn = attacked(net, patient.images.clone(), patient.targets.clone())
        carries = isinstance(drawn, Tensor) and drawn.requires_grad and _reaches_weights(drawn, net)
    except NotAttackable as error:
        reason = str(error).removeprefix(f"{patient.label}: ").partition(";")[0]
        return "note", f"{reason}: no model can be fooled against it directly"
    finally:
        before.restore()
    if carries:
        return "ok", "create_graph=True gives a map that can be differentiated by the weights"
    advice = (
        "with create_graph=True return the map undetached; take gradients with torch.autograd.grad(create_graph=True)"
    )
    return "failed", "create_graph=True gives a map without a graph to the weights", advice


def _reaches_weights(drawn: Tensor, net: nn.Module) -> bool:
    slopes = torch.autograd.grad(drawn.square().sum(), list(net.parameters()), allow_unused=True)
    return any(s is not None and bool(s.any()) for s in slopes)


def _declares(patient: Patient) -> Seen:
    negative = bool((torch.as_tensor(patient.first.raw) < 0).any())
    declared = {n: plugins.trait(patient.interpreter, n, None) for n in ("family", "signed", "stochastic")}
    if patient.stochastic and declared["stochastic"] is False:
        return "failed", "stochastic = False, but another seed gives another map", "declare stochastic = True"
    if negative and declared["signed"] is False:
        return "failed", "signed = False, but some values are negative", "declare signed = True"
    shown = ", ".join(f"{n} = {v}" for n, v in declared.items() if v is not None) or "nothing"
    if missing := [n for n, v in declared.items() if v is None]:
        kinds = " or ".join(kind for kind in get_args(Family) if kind != "canary")
        found = {"family": kinds, "signed": negative, "stochastic": patient.stochastic}
        return "note", shown, f"as attributes, declare {', '.join(f'{n} = {found[n]}' for n in missing)}"
    return "ok", shown


VITAL: dict[str, Check] = {
    "shapes": Check(_shapes, ("first",)),
    "finite": Check(_finite),
    "says something": Check(_says_something),
}
"""Without these nothing else can be told."""

FURTHER: dict[str, Check] = {
    "leaves model": Check(_leaves_model),
    "looks at model": Check(_looks_at_model, ("elsewhere",)),
    "batches": Check(_batches, ("reseeded",), calls=2),
    "same seed": Check(_same_seed, ("again",)),
    "random state": Check(_random_state, ("again", "reseeded")),
    "forgets": Check(_forgets, ("elsewhere", "reseeded"), calls=1),
    "looks at target": Check(_looks_at_target, calls=1),
    "looks at input": Check(_looks_at_input, calls=1),
    "past prediction": Check(_past_prediction, ("elsewhere",), calls=2),
    "declares": Check(_declares, ("reseeded",)),
    "attackable": Check(_attackable, calls=2),
    "memory": Check(_memory, calls=4),
}
"""The most telling first: for a slow interpreter there is no time for all."""
