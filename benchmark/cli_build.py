"""The command that makes a suite's networks: build."""

from __future__ import annotations

import os
from pathlib import Path

import click

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("suite")
@click.option("--into", type=FOLDER, help="Make them from nothing in this folder.")
@click.option("--jobs", "-j", type=click.IntRange(1), default=os.cpu_count(), show_default=True, help="Processes.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, …")
@click.option("--data", type=click.Path(), help="Where the suite's data and weights lie.")
@click.option("--store", type=FOLDER, help="Where finished work is kept.  [default: ~/.cache/unfooled]")
def build(
    suite: str,
    into: Path | None,
    jobs: int,
    device: str,
    data: str | None,
    store: Path | None,
) -> None:
    """Fit and fool the networks of SUITE, without asking any interpreter. The same command resumes."""
    from unfooled import runner
    from unfooled.progress import bar
    from unfooled.store import Store

    chosen = runner.prepared(suite, data)
    options = runner.Options(jobs, device, store)
    place = Store(into) if into else runner.open_store(options, chosen)
    with bar() as progress:
        runner.build(chosen, place, options, progress)
    click.echo(f"networks: {place.root}")
