"""A contract test of one interpreter, in seconds: is it fit to be run, and if not, what should be done about it?"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from unfooled import maps, plugins, seeding
from unfooled.patient import CLASSES, Patient, alike, difference, network, pictures, similarity
from unfooled.types import Interpreter, Maps, NotAttackable

Status = Literal["ok", "failed", "note"]

PATIENCE = 8.0
"""Seconds after which no further check is begun."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw."""

    check: str
    status: Status
    seen: str
    advice: str = ""
    """what to do about it; empty where nothing is to be done"""


def examine(interpreter: Interpreter, label: str = "interpreter") -> list[Finding]:
    """All checks of an interpreter, on small untrained networks and three images: CPU, no download, no trace.

    Where no maps come back, or none that can be compared, the later checks are left out; so are those that a very slow
    interpreter leaves no time for.
    """
    return list(_examination(Patient(interpreter, label)))


def failed(findings: list[Finding]) -> bool:
    """Whether any check failed; notes do not count."""
    return any(f.status == "failed" for f in findings)


def as_text(findings: list[Finding], label: str) -> str:
    """The findings as a table for the terminal, what to do about a finding on the line below it."""
    lines = [label]
    for f in findings:
        lines.append(f"  {f.status:<7} {f.check:<15} {f.seen}")
        lines += [f"  {'':<7} {'':<15} → {f.advice}"] if f.advice else []
    count = sum(f.status == "failed" for f in findings)
    whole = "fit to be run" if findings[-1].check != "speed" else "nothing failed, but not all was examined"
    return "\n".join([*lines, f"{count} of {len(findings)} checks failed" if count else whole])


Seen = tuple[Status, str] | tuple[Status, str, str]
Check = Callable[[Patient], Seen]
"""Status, what was seen, and what to do about it."""


def _examination(patient: Patient) -> Iterator[Finding]:
    start = time.perf_counter()
    for name, check in VITAL.items():
        finding = _guarded(name, check, patient)
        yield finding
        if finding.status == "failed":
            return
    for number, (name, check) in enumerate(FURTHER.items()):
        if time.perf_counter() - start > PATIENCE:
            left = ", ".join(list(FURTHER)[number:])
            slow = f"a call takes {patient.first.seconds:.1f} s; no time was left for: {left}"
            yield Finding("speed", "note", slow, "examine it with fewer samples or steps")
            return
        yield _guarded(name, check, patient)


def _guarded(name: str, check: Check, patient: Patient) -> Finding:
    try:
        status, seen, *advice = check(patient)
    except Exception as error:  # whatever a plug-in raises is a finding
        text = str(error).strip().partition("\n")[0]
        file, line = plugins.raised_at(error)
        return Finding(name, "failed", f"raised {type(error).__name__}: {text}", f"see {file}, line {line}")
    return Finding(name, status, seen, *advice)


def _shapes(patient: Patient) -> Seen:
    raw, n = patient.first.raw, len(patient.images)
    wanted = "return a tensor or array (n, c, h, w), (n, 1, h, w) or (n, h, w), one map for each image"
    if not isinstance(raw, (Tensor, np.ndarray)):
        return "failed", f"answered with {type(raw).__name__}", wanted
    if raw.ndim not in (3, 4) or len(raw) != n:
        return "failed", f"answered {tuple(raw.shape)} for {n} images of 3 × 32 × 32", wanted
    return "ok", f"{tuple(raw.shape)} for {n} images, {1e3 * patient.first.seconds / n:.1f} ms an image"


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
    """Streams that two different seeds leave at the same place were seeded in between."""
    first, second = patient.first.next_draws, patient.reseeded.next_draws
    if seeded := [name for name in first if first[name] == second[name]]:
        advice = "draw from the global stream as it is, or from a torch.Generator seeded from it"
        return "failed", f"seeds the global stream of {', '.join(seeded)}", advice
    return "ok", "seeds no global stream"


def _same_seed(patient: Patient) -> Seen:
    again = patient.ask(patient.net, patient.images, patient.targets)
    if not alike(patient.first.maps, again):
        advice = "draw from torch's, numpy's or random's global stream, or a generator seeded from it; keep no state"
        return "failed", f"the same question got another map ({difference(patient.first.maps, again)})", advice
    return "ok", "the same seed gives the same map"


def _batches(patient: Patient) -> Seen:
    if patient.stochastic:
        return "note", "stochastic, so not compared one by one; a suite's chunk size is fixed"
    alone = np.concatenate(
        [patient.ask(patient.net, patient.images[[i]], patient.targets[[i]]) for i in range(len(patient.images))]
    )
    if not alike(patient.first.maps, alone):
        advice = "treat each image by itself: one target an image, sums not means over the batch, no batch statistics"
        return "failed", f"one by one, maps differ from the batch's ({difference(patient.first.maps, alone)})", advice
    return "ok", "a batch gives what its images give one by one"


def _looks_at_model(patient: Patient) -> Seen:
    advice = "it cannot tell a fooled model from an honest one; call the model that it is given, every time"
    seen = _moved(patient.first.maps, patient.elsewhere, "another network", advice)
    if seen[0] != "failed" and alike(*patient.agreeing):
        advice = "use more of the model than its prediction, which a fooled model keeps"
        return "failed", "the same map for another network that predicts the same class", advice
    return seen


def _looks_at_input(patient: Patient) -> Seen:
    other = patient.ask(patient.net, pictures("other images"), patient.targets)
    return _moved(patient.first.maps, other, "other images", "the map must be of the image that is given")


def _looks_at_target(patient: Patient) -> Seen:
    other = patient.ask(patient.net, patient.images, (patient.targets + 1) % CLASSES)
    advice = "explain model(inputs)[range(n), targets], not the largest logit or the sum of all"
    return _moved(patient.first.maps, other, "another target", advice)


def _moved(first: Maps, other: Maps, what: str, advice: str) -> Seen:
    if alike(first, other):
        return "failed", f"the same map for {what}", advice
    return "ok", f"another map for {what}"


def _forgets(patient: Patient) -> Seen:
    """The other network's map of an image seen before with the first one, against the image new to the interpreter."""
    seen = patient.ask(patient.other_net, patient.images, patient.targets)
    stale = similarity(patient.first.maps, seen) > 0.999 and similarity(seen, patient.elsewhere) < 0.9
    if stale:
        advice = "keep nothing between calls: a map remembered from one model is wrong for every other"
        return "failed", "an image seen before gets the map of the model it was seen with", advice
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
    try:
        attacked = plugins.attackable(patient.interpreter, patient.label)
    except NotAttackable:
        return "note", "has no create_graph: no model can be fooled against it directly"
    net = network("original").requires_grad_()
    with seeding.forked("doctor", "first"):
        drawn = attacked(net, patient.images, patient.targets)
    if isinstance(drawn, Tensor) and drawn.requires_grad and _reaches_weights(drawn, net):
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
        found = {"family": "its kind", "signed": negative, "stochastic": patient.stochastic}
        return "note", shown, f"as attributes, declare {', '.join(f'{n} = {found[n]}' for n in missing)}"
    return "ok", shown


VITAL: dict[str, Check] = {"shapes": _shapes, "finite": _finite, "says something": _says_something}
"""Without these nothing else can be told."""

FURTHER: dict[str, Check] = {
    "leaves model": _leaves_model,
    "random state": _random_state,
    "same seed": _same_seed,
    "looks at model": _looks_at_model,
    "looks at input": _looks_at_input,
    "looks at target": _looks_at_target,
    "forgets": _forgets,
    "batches": _batches,
    "declares": _declares,
    "attackable": _attackable,
    "memory": _memory,
}
