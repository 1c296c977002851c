"""A contract test of one interpreter, in seconds: is it fit to be run, and if not, what should be done about it?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unfooled import patient as patients
from unfooled import plugins
from unfooled.patient import Misfit, Patient
from unfooled.symptoms import FURTHER, VITAL, Check, Status
from unfooled.types import Interpreter

PATIENCE = 7.2
"""Seconds that an examination may take; no check is begun that would take longer. With what the command imports before,
that is under ten."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw."""

    check: str
    status: Status
    seen: str
    advice: str = ""
    """what to do about it; empty where nothing is to be done"""


def examine(interpreter: Interpreter, label: str = "interpreter") -> list[Finding]:
    """All checks of an interpreter, on small untrained networks and four images: CPU, no download, no trace.

    Where no maps come back, or none that can be compared, the later checks are left out; so are those that a slow
    interpreter leaves no time for, and then the last finding, ``speed``, names them.
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
    return "\n".join([*lines, _verdict(findings)])


def _verdict(findings: list[Finding]) -> str:
    checks = [f for f in findings if f.check != "speed"]
    count = sum(f.status == "failed" for f in checks)
    said = f"{count} of {len(checks)} checks failed" if count else "nothing failed"
    if len(checks) < len(findings):
        return f"{said}, but it was not examined whole"
    return said if count else "fit to be run"


def _examination(patient: Patient) -> Iterator[Finding]:
    start, left = time.perf_counter(), []
    for name, check in VITAL.items():
        finding = _guarded(name, check, patient)
        yield finding
        if finding.status == "failed":
            return
    for name, check in FURTHER.items():
        cost = check.seconds(patient)
        if cost and time.perf_counter() - start + cost > PATIENCE:
            left.append(name)
        else:
            yield _guarded(name, check, patient)
    if left:
        slow = f"a call takes {patient.pace:.1f} s; not examined whole, no time was left for: {', '.join(left)}"
        yield Finding("speed", "note", slow, "examine it with fewer samples or steps")


def _guarded(name: str, check: Check, patient: Patient) -> Finding:
    try:
        status, seen, *advice = check.look(patient)
    except Misfit as error:
        seen, _, right = str(error).partition("; ")
        return Finding(name, "failed", seen, right)
    except (Exception, SystemExit) as error:  # whatever a plug-in raises is a finding
        return Finding(name, "failed", *_raised(error, patient.label))
    return Finding(name, status, seen, *advice)


def _raised(error: BaseException, label: str) -> tuple[str, str]:
    """What was raised, and where to look: never at the line of ours that makes the call."""
    text = str(error).strip().partition("\n")[0]
    file, line = plugins.raised_at(error)
    called = file == Path(patients.__file__)
    if called and isinstance(error, TypeError):
        return f"cannot be called as (model, inputs, targets): {text}", "take these three, in this order"
    place = f"call {label} by hand with a model, images and classes" if called else f"see {file}, line {line}"
    arguments = f", and at the arguments of {label}" if "(" in label else ""
    return f"raised {type(error).__name__}: {text}", place + arguments
