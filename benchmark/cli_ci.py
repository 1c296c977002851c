"""The commands for continuous integration: compare, ci. Each parses, calls one function, prints."""

from __future__ import annotations

import os
from pathlib import Path

import click

FILE = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)
ALPHA = click.option("--alpha", type=click.FloatRange(0, 1), default=0.005, show_default=True, help="Error allowed.")
LEAST = click.option(
    "--least-effect",
    type=click.FloatRange(0),
    default=0.02,
    show_default=True,
    help="The least difference that matters.",
)
FAIL_ON = click.option(
    "--fail-on", type=click.Choice(["worse", "change"]), default="worse", show_default=True,
    help="Fail for the worse only, or for any change.",
)  # fmt: skip
JUNIT = click.option("--junit", type=FILE, help="Write JUnit's XML there too.")
MARKDOWN = click.option("--md", "form", flag_value="markdown", help="As Markdown.")
JSON = click.option("--json", "form", flag_value="json", help="As JSON.")


@click.command()
@click.argument("base", type=FILE)
@click.argument("new", type=FILE)
@click.option("--interpreter", "-i", "interpreters", multiple=True, metavar="LABEL", help="Only this one; repeat.")
@ALPHA
@LEAST
@FAIL_ON
@MARKDOWN
@JSON
@JUNIT
@click.pass_context
def compare(
    ctx: click.Context,
    base: Path,
    new: Path,
    interpreters: tuple[str, ...],
    alpha: float,
    least_effect: float,
    fail_on: str,
    form: str | None,
    junit: Path | None,
) -> None:
    """What changed from BASE to NEW, each a run's folder or its rows.parquet.

    \b
    -  worse    +  better    ~  not significant    x  not comparable    !  newly failing    *  fixed

    Exit codes: 0 nothing is worse, 1 something is, 3 an interpreter newly fails, 4 nothing is comparable, 5 no BASE.
    """
    from unfooled import ci as check
    from unfooled import records
    from unfooled.leaderboard import regression

    found = regression.compare(
        check.baseline(base), records.load(new),
        alpha=alpha, least=least_effect, fail_on=fail_on, interpreters=interpreters or None,
    )  # fmt: skip
    _print(found, form, junit)
    ctx.exit(found.exit_code)


@click.command()
@click.option("--baseline", type=FILE, required=True, help="The run to compare with: one Parquet file.")
@click.option("--interpreter", "-i", required=True, metavar="module:Name", help="Whom to ask.")
@click.option("--suite", default="smoke", show_default=True, help="A suite file, or the name of a shipped one.")
@click.option(
    "--baseline-missing", type=click.Choice(["fail", "create", "skip"]), default="fail", show_default=True,
    help="What to do without a baseline: exit code 5, write one, or run without comparing.",
)  # fmt: skip
@click.option("--update-baseline", is_flag=True, help="Show the comparison, then replace the baseline: exit code 0.")
@ALPHA
@LEAST
@FAIL_ON
@MARKDOWN
@JSON
@JUNIT
@click.option("--jobs", "-j", type=click.IntRange(1), default=os.cpu_count(), show_default=True, help="Processes.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, …")
@click.option("--data", type=click.Path(), help="Where the suite's data and weights lie.")
@click.option("--out", type=FOLDER, default=Path("runs"), show_default=True, help="Where the run's folder is made.")
@click.option("--store", type=FOLDER, help="Where finished work is kept.  [default: ~/.cache/unfooled]")
@click.pass_context
def ci(
    ctx: click.Context,
    baseline: Path,
    interpreter: str,
    suite: str,
    baseline_missing: str,
    update_baseline: bool,
    alpha: float,
    least_effect: float,
    fail_on: str,
    form: str | None,
    junit: Path | None,
    jobs: int,
    device: str,
    data: str | None,
    out: Path,
    store: Path | None,
) -> None:
    """Run one interpreter and compare it with its baseline: exit code 1 when it got worse.

    On GitHub every line that fails becomes an annotation, and the table the step's summary.
    """
    from unfooled import ci as check
    from unfooled import plugins, runner
    from unfooled.progress import bar
    from unfooled.specs import as_part

    known, named = baseline.exists(), as_part(interpreter)
    if not known:
        plugins.build("interpreters", named)  # a wrong name should not hide behind a baseline that is not there
    needed = known or (baseline_missing == "fail" and not update_baseline)
    base = check.baseline(baseline) if needed else None
    options = runner.Options(jobs, device, store, out)
    with bar() as progress:
        made = check.measure(runner.prepared(suite, data), named, options, progress)
    found = check.against(base, made, named.label, alpha, least_effect, fail_on) if base else None
    if found:
        _print(found, form, junit)
        check.annotate(found, os.environ)
    if update_baseline or (not known and baseline_missing == "create"):
        check.keep(made, baseline)
        click.echo(f"baseline: {baseline}", err=True)
        ctx.exit(0)
    ctx.exit(check.exit_code(made, found))


def _print(found: object, form: str | None, junit: Path | None) -> None:
    from unfooled.leaderboard import change_tables

    click.echo(change_tables.PRINTERS[form or "text"](found), nl=False)
    if junit:
        junit.write_text(change_tables.as_junit(found), encoding="utf-8")
