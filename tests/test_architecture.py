"""The house: imports go down only, modules stay small, the catalogue is what is installed."""

import ast
import importlib.metadata
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "benchmark": "unfooled",
    "baselines": "unfooled.baselines",
    "leaderboard": "unfooled.leaderboard",
    "suites": "unfooled.suites",
}
LINES = 300

FLOORS = {
    6: ["benchmark/cli*.py", "benchmark/pytest_plugin.py"],
    5: [
        *("benchmark/report.py", "benchmark/figures.py", "benchmark/findings.py", "benchmark/gallery.py"),
        *("benchmark/rebuilding.py", "benchmark/located.py"),
        *("benchmark/ci.py", "benchmark/__init__.py", "benchmark/plots/*", "leaderboard/*"),
    ],
    4: [
        *("leaderboard/ranking.py", "leaderboard/regression.py", "leaderboard/stability.py", "leaderboard/blocks.py"),
        *(
            "leaderboard/facts.py",
            "leaderboard/controls.py",
            "leaderboard/multiverse.py",
            "leaderboard/pairing.py",
            "leaderboard/paired.py",
        ),
        *("leaderboard/verdicts.py", "leaderboard/columns.py", "leaderboard/tables.py", "leaderboard/__init__.py"),
        *("leaderboard/layout.py", "leaderboard/captions.py", "leaderboard/terminal.py", "leaderboard/latex.py"),
        *("leaderboard/change_tables.py", "leaderboard/names.py"),
    ],
    3: [
        *("benchmark/runner.py", "benchmark/gathering.py", "benchmark/asking.py", "benchmark/building.py"),
        "benchmark/adaptive.py",
        "benchmark/scoring.py",
        "benchmark/planning.py",
    ],
    2: [
        *(
            "benchmark/specs.py",
            "benchmark/suite.py",
            "benchmark/searching.py",
            "benchmark/certificates.py",
            "benchmark/manipulations/*",
        ),
        *("benchmark/catalogue.py", "benchmark/doctor.py", "benchmark/patient.py", "baselines/*"),
        "benchmark/symptoms.py",
    ],
    1: [
        *("benchmark/metrics/*", "benchmark/datasets/*", "benchmark/models.py", "benchmark/blocks.py"),
        *("benchmark/vision.py", "benchmark/training.py", "benchmark/aopc.py", "benchmark/maps.py"),
        *("benchmark/localisation.py", "benchmark/merkle.py", "benchmark/store.py", "benchmark/records.py"),
        *("benchmark/intervals.py", "benchmark/seeding.py", "benchmark/plugins.py", "benchmark/sources.py"),
        *("benchmark/sentinel.py", "benchmark/cost.py", "benchmark/progress.py", "benchmark/parallel.py"),
    ],
    0: ["benchmark/types.py", "benchmark/wording.py", "suites/__init__.py"],
}
"""Lower floors are named first in DESIGN's table; a pattern with a star holds for what is not named outright."""


def files():
    return sorted(path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py"))


def place(path):
    return path.relative_to(ROOT).as_posix()


def floor(path):
    name = place(path)
    outright = [n for n, patterns in FLOORS.items() if name in patterns]
    starred = [n for n, patterns in FLOORS.items() if any(fnmatch(name, p) for p in patterns)]
    assert outright or starred, f"{name} stands on no floor; put it in FLOORS"
    return (outright or starred)[0]


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([PACKAGES[parts[0]], *(p for p in parts[1:] if p != "__init__")])


MODULES = {module_name(path): path for path in files()}


TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES.values()}


def imports(path):
    """The modules of ours that a module imports, inside functions too."""
    found = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {m if (m := f"{node.module}.{a.name}") in MODULES else node.module for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return (found & MODULES.keys()) - {module_name(path)}


def test_imports_go_down():
    above = {p: {place(MODULES[m]) for m in imports(p) if floor(MODULES[m]) > floor(p)} for p in files()}
    assert not any(above.values()), "; ".join(
        f"{place(path)} (floor {floor(path)}) looks up at {up}" for path, up in above.items() if up
    )


def test_nobody_imports_in_a_circle():
    """On one floor, too, there is a below: take away whoever imports nobody that is left."""
    left = {name: imports(path) - {"unfooled"} for name, path in MODULES.items()}
    while free := {name for name, below in left.items() if not below & left.keys()}:
        left = {name: below for name, below in left.items() if name not in free}
    assert not left, f"these import in a circle, or lean on one: {sorted(left)}"


def test_floors_hold_what_there_is():
    named = [p for patterns in FLOORS.values() for p in patterns]
    gone = [p for p in named if not any(fnmatch(place(path), p) for path in files())]
    assert not gone, f"FLOORS names what is no longer there: {gone}"
    assert len(named) == len(set(named))


def test_types_imports_nothing_of_ours():
    assert imports(ROOT / "benchmark" / "types.py") == set()


def test_modules_are_small():
    lines = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files()}
    assert {name: n for name, n in lines.items() if n > LINES} == {}


ADAPTERS = {"baselines/adapters.py", "baselines/array_adapters.py", "baselines/zennit_adapter.py"}
"""These hand on the arguments of another library."""


def hands_on(function):
    """Does it take arguments without a name and hand them on? What stands in for an operation of torch's must."""
    given = function.args
    first = [a.arg for a in given.args if a.arg != "self"][:1]
    if given.kwarg is None or first in (["operation"], ["_"]):
        return False
    spread = [k.value for node in ast.walk(function) if isinstance(node, ast.Call) for k in node.keywords if not k.arg]
    return any(isinstance(value, ast.Name) and value.id == given.kwarg.arg for value in spread)


def test_no_arguments_are_handed_on_blindly():
    functions = [(p, f) for p, t in TREES.items() for f in ast.walk(t) if isinstance(f, ast.FunctionDef)]
    blind = {place(p) for p, f in functions if hands_on(f) and f.name != "__torch_function__"}
    assert blind <= ADAPTERS


def test_the_installed_catalogue_is_the_files():
    """An editable install keeps the entry points of the day it was made: renew it with ``pip install -e .``."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    for group, wanted in groups.items():
        installed = {e.name: e.value for e in importlib.metadata.entry_points(group=group) if e.dist.name == "unfooled"}
        assert installed == wanted, group


def test_every_folder_is_packaged():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert setup["package-dir"] == {package: folder for folder, package in PACKAGES.items()}
    folders = {module_name(path.parent / "__init__.py") for path in files()}
    assert set(setup["packages"]) == folders


def test_importing_the_house_imports_no_torch():
    """The commands answer at once: torch alone takes a second."""
    code = "import sys, unfooled, unfooled.cli; print(sorted({'torch', 'pandas', 'matplotlib'} & sys.modules.keys()))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
