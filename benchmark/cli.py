"""The commands: parse, call one function, print. Data go to stdout, progress to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from unfooled import plugins
from unfooled.cli_build import build
from unfooled.cli_ci import ci, compare
from unfooled.cli_leaderboard import leaderboard, submit
from unfooled.types import UnfooledError

OUT = click.Path(path_type=Path, file_okay=False)


class Unfooled(click.Group):
    """Turns what the user can mend into one line and an exit code; ``--debug`` shows the traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except UnfooledError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"unfooled: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo(
                "unfooled: interrupted; what was finished is kept, the same command goes on from there", err=True
            )
            ctx.exit(130)
        except OSError as error:
            if ctx.params.get("debug") or error.filename is None:
                raise
            click.echo(
                f"unfooled: {error.filename}: {error.strerror}; another place, or more room, is needed", err=True
            )
            ctx.exit(2)


@click.group(cls=Unfooled, context_settings={"auto_envvar_prefix": "UNFOOLED", "max_content_width": 100})
@click.version_option(package_name="unfooled", message="unfooled %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(debug: bool) -> None:
    """Which interpreters stay honest when the model is made to lie?

    \b
    unfooled run smoke                                   a first look, in seconds
    unfooled run standard --interpreter mine:method      your method among the baselines
    unfooled doctor mine:method                          is it fit to be run?

    Exit codes: 0 fine, 1 regression or failed check, 2 usage, 3 an interpreter failed, 4 not comparable, 5 no baseline.
    """


@main.command()
@click.argument("suite")
@click.option(
    "--interpreter", "-i", "interpreters", multiple=True, metavar="module:Name", help="One more to ask; repeat."
)
@click.option("--only", is_flag=True, help="Ask the --interpreter and the canaries alone.")
@click.option("--jobs", "-j", type=click.IntRange(1), default=os.cpu_count(), show_default=True, help="Processes.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, …")
@click.option("--data", type=click.Path(), help="Where the suite's data and weights lie.")
@click.option("--out", type=OUT, default=Path("runs"), show_default=True, help="Where the run's folder is made.")
@click.option("--store", type=OUT, help="Where finished work is kept.  [default: ~/.cache/unfooled]")
@click.option("--seed", type=int, help="Another random stream for the maps.")
@click.option("--limit", type=click.IntRange(1), help="Fewer images: a trial, not to be submitted.")
@click.option("--refit", is_flag=True, help="Make every network from nothing.")
@click.option(
    "--adaptive",
    type=click.Choice(["quick", "full"]),
    is_flag=False,
    flag_value="quick",
    help="Also fool models against the --interpreter itself (the suite's own where none is given): location and top-k "
    "on the VGG settings; =full: every passive manipulation on all.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.option("--no-report", is_flag=True, help="Rows only; `unfooled report` makes the report later.")
@click.pass_context
def run(
    ctx: click.Context,
    suite: str,
    interpreters: tuple[str, ...],
    only: bool,
    jobs: int,
    device: str,
    data: str | None,
    out: Path,
    store: Path | None,
    seed: int | None,
    limit: int | None,
    refit: bool,
    adaptive: str | None,
    dry_run: bool,
    no_report: bool,
) -> None:
    """Run SUITE, a file or the bare name of a shipped suite, and print the ranked table.

    The same command resumes a run that was cut off. Exit code 3 when an interpreter failed.
    """
    from unfooled import planning, runner
    from unfooled.progress import bar
    from unfooled.specs import as_part

    chosen = runner.prepared(suite, data, seed, limit)
    extra = tuple(as_part(i) for i in interpreters)
    if only:
        chosen = runner.narrowed(chosen, extra)
    options = runner.Options(jobs, device, store, out, refit)
    if dry_run:
        click.echo(planning.plan(chosen, extra, options, adaptive))
        return
    with bar() as progress:
        made = runner.run(chosen, extra, options, progress, adaptive)
    _print_run(made, extra, report=not no_report)
    ctx.exit(3 if _failures(made) else 0)


def _failures(made: object) -> list[dict[str, str]]:
    return [*made.header["failures"], *made.header.get("adaptive", {}).get("failures", ())]


def _print_run(made: object, extra: Iterable[object], report: bool) -> None:
    from unfooled.findings import Findings
    from unfooled.leaderboard import tables

    found = Findings(made)
    click.echo(tables.as_text(found.table))
    for part in extra:
        click.echo(tables.place(found.table, part.label))
    for failure in _failures(made):
        click.echo(f"failed: {failure['setting']}: {failure['reason']}", err=True)
    if made.header.get("note"):
        click.echo(f"note: {made.header['note']}")
    if made.header["limit"]:
        click.echo("limited: fewer images than the suite asks for, so this run cannot be submitted", err=True)
    click.echo(f"run:     {made.folder}\nrows:    {made.path}")
    if report:
        _print_report(found)


def _print_report(found: object) -> None:
    from unfooled import report

    made = found.run
    report.write(made, found)
    click.echo(f"report:  {made.folder / 'report.html'}\nfigures: {made.folder / 'figures'}")


@main.command(name="list")
@click.argument("kind", type=click.Choice([*plugins.KINDS, "suites"]))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(kind: str, as_json: bool) -> None:
    """What there is of a KIND, with a line on each."""
    from unfooled.catalogue import entries

    found = entries(kind)
    if as_json:
        click.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    width = max((len(e["name"]) for e in found), default=0)
    for entry in found:
        canary = "(canary) " if entry.get("canary") else ""
        click.echo(f"{entry['name']:<{width}}  {canary}{entry['summary']}")


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--by",
    type=click.Choice(["manipulation", "model", "metric", "cell", "choice", "cost"]),
    help="Broken down; choice: ranks under every way to score, of either polarity; cost: beside what a map takes.",
)
@click.option(
    "--polarity", type=click.Choice(["absolute", "signed"]), help="Maps with or without sign.  [default: absolute]"
)
@click.option(
    "--at", type=click.Choice(["input", "T"]), default="input", show_default=True, help="Maps of which layer."
)
@click.option("--md", "form", flag_value="markdown", help="As Markdown.")
@click.option("--csv", "form", flag_value="csv", help="As CSV.")
@click.option("--latex", "form", flag_value="latex", help="As LaTeX.")
@click.option("--json", "form", flag_value="json", help="As JSON.")
def show(run: Path, by: str | None, polarity: str | None, at: str, form: str | None) -> None:
    """Print the tables of a RUN, a run's folder or its rows.parquet."""
    from unfooled import records
    from unfooled.leaderboard import tables

    if by == "choice" and polarity:
        raise click.UsageError("--by choice ranks maps of either polarity; leave --polarity out")
    frame = _table(records.load(run), by, polarity or "absolute", at)
    if frame.empty:
        raise records.RunError(f"{run}: nobody in it answers with maps at {at}; --at is input or T")
    click.echo(tables.PRINTERS[form or "text"](frame))


def _table(made: object, by: str | None, polarity: str, at: str) -> object:
    """The frame of a run that ``--by`` names; all of it where nothing is named."""
    from unfooled.leaderboard import multiverse, ranking

    if by == "choice":
        return multiverse.rank_ranges(multiverse.multiverse(made.rows, made.header, at=at))
    if by not in (None, "cost"):
        return ranking.by(made.rows, made.header, by, polarity=polarity, at=at)
    table = ranking.scores(made.rows, made.header, polarity=polarity, at=at)
    return ranking.costs(table) if by else table


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
def report(run: Path) -> None:
    """Make the report and the figures of a RUN again."""
    from unfooled import records
    from unfooled.findings import Findings

    _print_report(Findings(records.load(run)))


@main.command()
@click.argument("interpreter")
@click.pass_context
def doctor(ctx: click.Context, interpreter: str) -> None:
    """Is an INTERPRETER (name or module:Name) fit to be run? Exit code 1 when it is not."""
    from unfooled import doctor as examination
    from unfooled.specs import as_part

    named = as_part(interpreter)
    findings = examination.examine(plugins.build("interpreters", named), named.label)
    click.echo(examination.as_text(findings, named.label))
    ctx.exit(1 if examination.failed(findings) else 0)


for _command in (build, submit, leaderboard, ci, compare):
    main.add_command(_command)


if __name__ == "__main__":
    sys.exit(main())
