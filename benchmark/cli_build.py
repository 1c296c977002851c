"""The command that makes a suite's networks: build."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("suite")
@click.option("--into", type=FOLDER, help="Make them from nothing in this folder.")
@click.option(
    "--check",
    is_flag=True,
    help="Make three cells of a VGG again, aside, and compare with what is built. Exit code 1 when a figure differs by "
    "more than three times its deviation between seeds.",
)
@click.option("--jobs", "-j", type=click.IntRange(1), default=os.cpu_count(), show_default=True, help="Processes.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, …")
@click.option("--data", type=click.Path(), help="Where the suite's data and weights lie.")
@click.option("--store", type=FOLDER, help="Where finished work is kept.  [default: ~/.cache/unfooled]")
@click.pass_context
def build(
    ctx: click.Context,
    suite: str,
    into: Path | None,
    check: bool,
    jobs: int,
    device: str,
    data: str | None,
    store: Path | None,
) -> None:
    """Fit and fool the networks of SUITE, without asking any interpreter. The same command resumes."""
    from unfooled import runner
    from unfooled.progress import bar
    from unfooled.store import Store

    if check and into:
        raise click.UsageError("--check makes networks in a temporary folder; leave --into out")
    chosen = runner.prepared(suite, data)
    options = runner.Options(jobs, device, store)
    if check:
        ctx.exit(_check(chosen, options))
    place = Store(into) if into else runner.open_store(options, chosen)
    with bar() as progress:
        runner.build(chosen, place, options, progress)
    click.echo(f"networks: {place.root}")


def _check(chosen: object, options: object) -> int:
    """Print the comparison; the exit code."""
    from unfooled import rebuilding, runner

    root = runner.store_root(options)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="check-", dir=root) as folder:
        place = runner.open_store(options, chosen)
        found = rebuilding.check(chosen, place, Path(folder), options.device, lambda text: click.echo(text, err=True))
    click.echo(rebuilding.as_text(found))
    return 1 if found.failed else 0
