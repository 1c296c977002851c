"""The docs are executed: blocks as they stand, in one folder a page, and every name, option, file and link is there.

A page's blocks run one after another, as a reader would type them. A block whose text names a file (``in `mine.py`:``,
or a first line ``# my.yaml``) is written there. ``# exit code N`` says how a command ends. A ``text`` block right after
commands is what they print, ``…`` for what varies.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import doc_tables
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from unfooled import plugins, suite
from unfooled.cli import main
from unfooled.leaderboard.stability import SIX

HERE = Path(__file__).parents[1]
PAGES = [HERE / "README.md", *sorted((HERE / "docs").glob("*.md"))]
WORKFLOWS = sorted((HERE / ".github" / "workflows").glob("*.yml"))

STATIC = {
    r"\b(standard|cifar10|imagenet)\b": "takes many minutes, or photographs that are not here",
    r"^unfooled (submit|leaderboard)\b": "needs an entry; test_entry, test_verify and test_board run these",
    r"^make ": "sets up environments; .ci/run executes run and test",
}
"""Lines of blocks that are held against the commands' own options, or the Makefile's targets, and not run; and why."""

ILLUSTRATIONS = {"docs/ci.md": "unfooled compare BASE NEW"}
"""Output that shows every mark at once, which no two runs here would: not compared."""

STAND_INS = {"BASE": "tests/unfooled.parquet", "NEW": "RUN"}
"""What the words in capitals stand for, where commands are executed; RUN is the newest run."""

METHOD = """
from unfooled.baselines.gradients import InputXGradient

class method(InputXGradient):
    pass
"""
"""The reader's own interpreter, ``mine:method``, on the pages that do not write one."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    before: str
    """the page's text above it"""

    @property
    def where(self) -> str:
        return f"{name_of(self.page)}:{self.line}"

    @property
    def file(self) -> str:
        """The file that the block is, by its own first line or by the words right before it; else empty."""
        own = re.match(r"# ([\w./-]+\.\w+)\n", self.text)
        said = re.search(r"`([\w./-]+\.\w+)`:\s*$", self.before)
        return own[1] if own else said[1] if said else ""


def name_of(page: Path) -> str:
    return page.relative_to(HERE).as_posix()


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M)
    return [Block(page, text.count("\n", 0, m.start()) + 1, m[1], m[2], text[: m.start()]) for m in found]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)


def commands(block: Block) -> list[str]:
    """The lines of a block of commands; none for other blocks. A fence without a language is one if it looks so."""
    shell = block.language == "sh" or (not block.language and block.text.startswith(("unfooled ", "make ")))
    return [line for line in block.text.splitlines() if line.strip()] if shell else []


def static(line: str) -> bool:
    return any(re.search(pattern, line) for pattern in STATIC)


def check_words(line: str, where: str) -> None:
    """Hold a line against what there is: the command, its options and the words they take; a target; no more."""
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        assert f"\n{words[1]}:" in (HERE / "Makefile").read_text(), f"{where}: no target {words[1]!r}"
    else:
        assert words[0] == "unfooled", f"{where}: nothing says how {words[0]!r} is checked"
        check_command(words[1:], where)


def check_command(words: list[str], where: str) -> None:
    group: click.Command = main
    while isinstance(group, click.Group):
        word = words.pop(0) if words else ""
        assert word in group.commands, f"{where}: no command {word!r}"
        group = group.commands[word]
    context = click.Context(group)
    try:
        given, _, _ = group.make_parser(context).parse_args(words)
        for param in group.params:
            if isinstance(param.type, click.Choice) and isinstance(given.get(param.name), str):
                param.type.convert(given[param.name], param, context)
    except click.UsageError as error:
        raise AssertionError(f"{where}: {error.format_message()}") from error


@dataclass
class Reader:
    """Somebody who types a page's blocks into a folder of their own."""

    folder: Path
    names: dict[str, object] = field(default_factory=lambda: {"__name__": "__main__"})
    printed: str = ""

    def follow(self, block: Block) -> None:
        kinds = {"python": self.python, "yaml": self.yaml, "toml": self.toml, "text": self.compare}
        if lines := commands(block):
            self.printed = "".join(self.type(line, block.where) for line in lines)
        elif block.language in kinds:
            kinds[block.language](block)
        else:
            raise AssertionError(f"{block.where}: nothing says how a block of {block.language!r} is checked")

    def type(self, line: str, where: str) -> str:
        """What a command prints. Fails where it ends otherwise than the page says."""
        check_words(line, where)
        if static(line):
            return ""
        command, _, code = line.partition("# exit code ")
        done = CliRunner().invoke(main, [self.meant(w) for w in shlex.split(command, comments=True)[1:]])
        assert done.exit_code == int(code or 0), f"{where}: {line}: ended with {done.exit_code}\n{done.output}"
        return done.output

    def meant(self, word: str) -> str:
        word = STAND_INS.get(word, word)
        if word != "RUN":
            return word
        return str(max((self.folder / "runs").iterdir(), key=lambda run: run.stat().st_mtime))

    def write(self, path: str, text: str) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text, encoding="utf-8")
        importlib.invalidate_caches()

    def python(self, block: Block) -> None:
        if block.file:
            self.write(block.file, block.text)
        elif "\ndef test_" in block.text:
            self.write("test_page.py", block.text)
            words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_page.py"]
            done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True)
            assert done.returncode == 0, f"{block.where}: {done.stdout}{done.stderr}"
            assert "1 passed" in done.stdout
        else:
            exec(compile("\n" * block.line + block.text, str(block.page), "exec"), self.names)

    def yaml(self, block: Block) -> None:
        content = yaml.safe_load(block.text)
        if "jobs" in content:
            self.write("workflow.yml", "on: push\n" + block.text)
            assert_valid("vendor.github-workflows", self.folder / "workflow.yml")
            check_call(content["jobs"])
        elif "repos" in content:
            self.write(block.file, block.text)
            check_hooks(self.folder / block.file, content, block.where)
        elif block.file:
            self.write(block.file, block.text)
            suite.load(self.folder / block.file)
        else:  # some lines of a suite
            whole = yaml.safe_load((HERE / "suites" / "smoke.yaml").read_text()) | content
            self.write("some-lines.yaml", yaml.safe_dump(whole))
            suite.load(self.folder / "some-lines.yaml")

    def toml(self, block: Block) -> None:
        """Entry points: what pip would write for them, on the path; then every name is found."""
        groups = tomllib.loads(block.text)["project"]["entry-points"]
        points = [f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in names.items()) for group, names in groups.items()]
        self.write("page-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: page\nVersion: 1.0\n")
        self.write("page-1.0.dist-info/entry_points.txt", "\n".join(points))
        plugins._entry_points.cache_clear()
        for group, names in groups.items():
            for name in names:
                assert callable(plugins.find(group.removeprefix("unfooled."), name)), block.where

    def compare(self, block: Block) -> None:
        """Every line that the page shows was printed."""
        typed = re.search(r"```sh\n((?:(?!```).)*)\n```\s*\Z", block.before, re.S)
        if not typed or typed[1] == ILLUSTRATIONS.get(name_of(block.page)):
            return
        for line in filter(str.strip, block.text.splitlines()):
            pattern = r"\s+".join(re.escape(word).replace("…", ".*") for word in line.split())
            assert re.search(pattern, self.printed), f"{block.where}: {line!r} is not in\n{self.printed}"


@pytest.fixture
def reader(tmp_path, monkeypatch) -> Iterator[Reader]:
    """In an empty folder but for an interpreter, the folder ``tests`` and our reference run; nothing of it stays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for command in ("RUN", "CI"):
        monkeypatch.setenv(f"UNFOOLED_{command}_JOBS", "1")
    (tmp_path / "tests").mkdir()
    (tmp_path / "mine.py").write_text(METHOD)
    (tmp_path / "leaderboard").mkdir()
    shutil.copytree(HERE / "leaderboard" / "reference", tmp_path / "leaderboard" / "reference")
    known = set(sys.modules)
    yield Reader(tmp_path)
    for name in set(sys.modules) - known:
        places = [getattr(sys.modules[name], "__file__", None), *getattr(sys.modules[name], "__path__", ())]
        if any(place and Path(place).is_relative_to(tmp_path) for place in places):
            del sys.modules[name]
            inspect._filesbymodname.pop(name, None)  # or the next page's package of that name is looked for in a file
    plugins._entry_points.cache_clear()
    importlib.invalidate_caches()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_does_what_it_says(page, reader):
    found = blocks(page)
    if any(block.file.startswith("mine/") for block in found):
        (reader.folder / "mine.py").unlink()
    for block in found:
        reader.follow(block)
    for line in re.findall(r"`(unfooled (?:list|show) [^`A-Z…]*(?:RUN)?[^`A-Z…]*)`", prose(page)):
        reader.type(line, name_of(page))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_in_the_text_are_there(page):
    text = prose(page)
    for line in re.findall(r"`(unfooled [^`]*)`", text):
        check_command([w for w in shlex.split(line)[1:] if w != "…"], name_of(page))
    for target in re.findall(r"`make (\w+)", text):
        check_words(f"make {target}", name_of(page))
    known = {opt for command in every_command(main) for param in command.params for opt in param.opts}
    for option in re.findall(r"`(--[\w-]+)", text):
        assert option in known, f"{name_of(page)}: no command has {option}"


def every_command(group: click.Command) -> Iterator[click.Command]:
    yield group
    for command in getattr(group, "commands", {}).values():
        yield from every_command(command)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_files_are_there(page):
    text = prose(page)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        place, _, heading = link.partition("#")
        if place.startswith("https://"):
            continue
        target = page.parent / place if place else page
        assert target.exists(), f"{name_of(page)}: {link}"
        if heading:
            assert heading in anchors(target), f"{name_of(page)}: {link}"
    folders = {child.name for child in HERE.iterdir() if child.is_dir()}
    for path in re.findall(r"`([\w.-]+/[\w./-]+\.(?:py|ya?ml))`", text):
        if path.split("/")[0] in folders:
            assert (HERE / path).exists(), f"{name_of(page)}: {path}"
    for module in re.findall(r"`python -m (tests[\w.]+)", text):
        assert (HERE / (module.replace(".", "/") + ".py")).exists(), f"{name_of(page)}: {module}"


def anchors(page: Path) -> list[str]:
    """GitHub's names for a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_the_readme_shows_what_a_newcomer_needs():
    readme = blocks(HERE / "README.md")
    assert [b.file for b in readme if b.language == "python"] == ["mine.py", ""]
    typed = [line for block in readme for line in commands(block)]
    assert {line.split()[1] for line in typed if line.startswith("unfooled ")} == {"doctor", "run"}
    for name in re.findall(r"^\| `(\w+)` \|", prose(HERE / "README.md"), re.M):
        assert name in suite.shipped()


def test_every_page_is_linked_from_the_readme():
    text = (HERE / "README.md").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        assert f"({name_of(page)})" in text, page.name


def test_what_is_only_checked_by_its_words_is_somewhere():
    lines = [line for page in PAGES for block in blocks(page) for line in commands(block)]
    for pattern in STATIC:
        if "imagenet" not in pattern:
            assert any(re.search(pattern, line) for line in lines), f"{pattern!r} is needed no more"


# Tables that the code could have written.


def test_the_tables_of_manipulations_are_the_codes():
    text = doc_tables.DOC.read_text(encoding="utf-8")
    assert {name for _, name, _, _ in doc_tables.PLACE.findall(text)} == set(doc_tables.TABLES)
    assert text == doc_tables.written(text), "write them anew: python -m tests.doc_tables"


def test_every_manipulation_has_a_section_with_its_interval():
    text = doc_tables.written(doc_tables.DOC.read_text(encoding="utf-8"))
    titles = {"active": "Active fooling", "centre_mass": "Centre of mass", "location": "Location", "top_k": "Top-k"}
    assert set(titles) == set(plugins.names("manipulations"))
    for name, title in titles.items():
        low, high = plugins.find("manipulations", name).fooled_when
        assert f"\n## {title}\n" in text
        assert re.search(rf"^\| `{name}` \|.*\| \[{low:g}, {high:g}\] \|", text, re.M)


def metric_rows() -> dict[str, list[str]]:
    """Name → the cells of its line in the table of docs/metrics.md."""
    text = (HERE / "docs" / "metrics.md").read_text(encoding="utf-8")
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if re.match(r"\| `\w+[(`]", line)]
    return {re.match(r"`(\w+)", cells[0].strip())[1]: [cell.strip() for cell in cells] for cells in lines}


def test_the_table_of_metrics_is_the_catalogue():
    rows = metric_rows()
    assert sorted(rows) == plugins.names("metrics")
    for name, cells in rows.items():
        metric = plugins.find("metrics", name)
        arguments = ", ".join(f'{p.name}="{p.default}"' if isinstance(p.default, str) else f"{p.name}={p.default}"
                              for p in inspect.signature(metric).parameters.values())  # fmt: skip
        label = f"`{name}({arguments})`" if arguments else f"`{name}`"
        assert cells[0] == label + (" ★" if name in SIX else "")
        assert int(re.match(r"\d+", cells[-1])[0]) == metric().smallest


def test_two_noise_maps_are_as_alike_as_the_table_says():
    """Means of 256 pairs: their standard error is under 0.003, so they show in two digits to within 0.01."""
    a, b = np.random.default_rng(0).standard_normal((2, 256, 32, 32)).astype(np.float32)
    for name, cells in metric_rows().items():
        metric = plugins.find("metrics", name)()
        if cells[3] == "k / pixels":
            assert metric(a, b).mean() == pytest.approx(round(0.1 * 1024) / 1024, abs=0.01)
            continue
        plain, absolute = re.fullmatch(r"([\d.]+)(?:; ([\d.]+) if absolute)?", cells[3]).groups()
        assert metric(a, b).mean() == pytest.approx(float(plain), abs=0.01), name
        if absolute:
            assert metric(np.abs(a), np.abs(b)).mean() == pytest.approx(float(absolute), abs=0.01), name


# Files that other people's machines read.


def valid(schema: str, *files: Path) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    return subprocess.run(words, capture_output=True, text=True)


def assert_valid(schema: str, *files: Path) -> None:
    done = valid(schema, *files)
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflows_are_what_github_takes(tmp_path):
    assert len(WORKFLOWS) >= 2
    assert_valid("vendor.github-workflows", *WORKFLOWS)
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "runs_on:"))
    assert valid("vendor.github-workflows", broken).returncode == 1


def test_the_citation_is_in_the_citation_files_format():
    assert_valid("vendor.citation-file-format", HERE / "CITATION.cff")


def scripts(workflow: dict) -> list[str]:
    return [step["run"] for job in workflow["jobs"].values() for step in job.get("steps", ()) if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_commands_that_there_are(path):
    """Every script is bash, uses variables and no expressions, and calls our commands with options that they have."""
    for script in scripts(yaml.safe_load(path.read_text())):
        assert "${{" not in script, "an input would be pasted into a command"
        assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).returncode == 0
        for line in script.splitlines():
            if line.strip().startswith("unfooled "):
                check_command(re.sub(r"\$FAIL_ON", "worse", line).replace('"', "").split()[1:], path.name)


def reusable() -> tuple[str, dict]:
    text = (HERE / ".github" / "workflows" / "unfooled.yml").read_text()
    return text, yaml.safe_load(text)[True]["workflow_call"]["inputs"]  # YAML 1.1 reads the key `on` as true


def test_the_reusable_workflow_uses_the_inputs_that_it_declares():
    text, inputs = reusable()
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(inputs)
    fail_on = next(p for p in main.commands["ci"].params if p.name == "fail_on")
    assert inputs["fail-on"]["default"] in fail_on.type.choices


def check_call(jobs: dict) -> None:
    """A page's jobs call our workflow, at our version, with what it needs and nothing that it does not know."""
    _, inputs = reusable()
    version = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]["version"]
    for job in jobs.values():
        assert job["uses"] == f"OWNER/unfooled/.github/workflows/unfooled.yml@v{version}"
        needed = {name for name, about in inputs.items() if about.get("required")}
        assert needed <= set(job["with"]) <= set(inputs)


def check_hooks(path: Path, content: dict, where: str) -> None:
    """pre-commit itself takes the file, and each hook is a command of ours."""
    words = [sys.executable, "-m", "pre_commit", "validate-config", str(path)]
    home = os.environ | {"PRE_COMMIT_HOME": str(path.parent / "pre-commit")}
    done = subprocess.run(words, capture_output=True, text=True, env=home)
    assert done.returncode == 0, done.stdout + done.stderr
    for hook in [hook for repo in content["repos"] for hook in repo["hooks"]]:
        check_words(hook["entry"], where)
