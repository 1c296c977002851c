"""The commands around the leaderboard: submit, check, verify, build, serve. Each parses, calls one function, prints."""

from __future__ import annotations

import os
from pathlib import Path

import click

ENTRIES = Path("leaderboard/entries")
FILE = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("run", type=FILE)
@click.option("--name", required=True, help="What the board calls it.")
@click.option("--method", required=True, metavar="module:Name", help="The interpreter, or its label in the run.")
@click.option("--code", required=True, metavar="URL", help="Where its source can be read: an https link.")
@click.option("--paper", metavar="URL", help="An https link.")
@click.option("--by", default="", help="Who submits it.")
@click.option("--out", type=FOLDER, default=ENTRIES, show_default=True, help="Where the entry is written.")
def submit(run: Path, name: str, method: str, code: str, paper: str | None, by: str, out: Path) -> None:
    """Pack one interpreter of RUN as an entry for the leaderboard, ready for a pull request.

    Says everything that is missing, and then writes nothing.
    """
    from unfooled import records
    from unfooled.leaderboard import submission

    made = records.load(run)
    click.echo(submission.submit(made, method, out, name=name, code=code, by=by, paper=paper))


@click.group()
def leaderboard() -> None:
    """Check, recompute and publish entries."""


@leaderboard.command()
@click.argument("run", type=FILE)
@click.option("--code", required=True, metavar="URL", help="Where the catalogue's source can be read: an https link.")
@click.option("--by", default="", help="Who submits them.")
@click.option("--out", type=FOLDER, default=ENTRIES, show_default=True, help="Where the entries are written.")
def baselines(run: Path, code: str, by: str, out: Path) -> None:
    """Pack every interpreter of RUN that is unfooled's own, under its usual name, with its paper.

    Says everything that is missing of any of them, and then writes nothing.
    """
    from unfooled import records
    from unfooled.leaderboard import baselines as ours

    for path in ours.submit(records.load(run), out, code=code, by=by):
        click.echo(path)


@leaderboard.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--out", type=FOLDER, required=True, help="Where SETTING.npz is written, for each setting.")
@click.option("--jobs", "-j", type=click.IntRange(1), default=os.cpu_count(), show_default=True, help="Processes.")
@click.option("--suite", help="The suite's file, where the entry is of none that ships.")
@click.option("--store", type=FOLDER, help="Where the suite's networks lie.  [default: ~/.cache/unfooled]")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, …")
@click.pass_context
def maps(
    ctx: click.Context, file: Path, out: Path, jobs: int, suite: str | None, store: Path | None, device: str
) -> None:
    """Draw the maps of an entry of your own again and keep them, to be shown later: `check FILE --maps DIR`.

    Runs the interpreter in this very process. Only the machine and versions of the run surely round every pixel alike;
    exit code 1 where the maps do not make the entry's root.
    """
    from unfooled.leaderboard import showing

    complaints = showing.draw_again(file, suite, store, out, device, jobs)
    for complaint in complaints:
        click.echo(complaint)
    click.echo(out)
    ctx.exit(1 if complaints else 0)


@leaderboard.command()
@click.argument("paths", type=FILE, nargs=-1)
@click.option("--maps", type=FOLDER, help="Revealed maps of the one entry that is checked: SETTING.npz each.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of entries instead.")
@click.pass_context
def check(ctx: click.Context, paths: tuple[Path, ...], maps: Path | None, schema: bool) -> None:
    """Check entries: files, or all of a folder. Exit code 1 for any complaint."""
    from unfooled.leaderboard import checker, entry, reveal

    if schema:
        click.echo(entry.schema(), nl=False)
        return
    found = checker.check(paths or (ENTRIES,))
    complaints = found.complaints + (reveal.check_shown(found.passed, maps) if maps else [])
    for complaint in complaints:
        click.echo(complaint)
    click.echo(f"{len(found.passed)} entries fine, {len(complaints)} complaints", err=True)
    ctx.exit(1 if complaints else 0)


@leaderboard.command()
@click.argument("paths", type=FILE, nargs=-1)
@click.option("--cells", type=click.IntRange(1), default=3, show_default=True, help="How many to recompute.")
@click.option("--seed", "nonce", help="What is added to the entry's digest to draw them.  [default: drawn anew]")
@click.option("--no-challenge", is_flag=True, help="Leave out the freshly fooled network.")
@click.option("--jobs", "-j", type=click.IntRange(1), default=1, show_default=True, help="Entries at a time.")
@click.option("--suite", help="The suite's file, where the entry is of none that ships.")
@click.option("--store", type=FOLDER, help="Where the suite's networks lie.  [default: ~/.cache/unfooled]")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, …")
@click.option(
    "--enough",
    type=click.IntRange(0),
    default=60,
    show_default=True,
    help="Begin no further setting that would end past this many seconds of processor time.",
)
@click.option(
    "--seconds", type=click.IntRange(1), default=600, show_default=True, help="Processor time, then it failed."
)
@click.option("--memory", type=click.FloatRange(0.1), default=4, show_default=True, help="Resident GiB.")
@click.pass_context
def verify(
    ctx: click.Context,
    paths: tuple[Path, ...],
    cells: int,
    nonce: str | None,
    no_challenge: bool,
    jobs: int,
    suite: str | None,
    store: Path | None,
    device: str,
    enough: int,
    seconds: int,
    memory: float,
) -> None:
    """Recompute parts of entries in a sandbox and write NAME.verified.json beside each.

    PATHS are entries, or folders, of which those that are not verified yet are taken. Exit code 0 where all are
    verified, 1 where one differs, 3 where one cannot be recomputed, 4 without its networks.
    """
    import secrets

    from unfooled.leaderboard import verify as verifying
    from unfooled.leaderboard.sandbox import Limits

    limits = Limits(seconds, int(memory * 2**30))
    options = verifying.Options(cells, enough, nonce or secrets.token_hex(8), not no_challenge, device, limits)
    files = verifying.to_verify(paths or (ENTRIES,))
    codes = {0}
    for file, found in verifying.verify_files(files, suite, store, options, jobs, _say):
        for line in verifying.lines(file, found):
            click.echo(line)
        codes.add(verifying.exit_code(found))
    click.echo(f"{len(files)} entries, nonce {options.nonce}", err=True)
    ctx.exit(next(code for code in (2, 1, 4, 3, 0) if code in codes))


def _say(text: str) -> None:
    click.echo(text, err=True)


@leaderboard.command()
@click.option("--entries", type=FOLDER, default=ENTRIES, show_default=True, help="Where the entries lie.")
@click.option("--out", type=FOLDER, default=Path("site"), show_default=True, help="Replaced by the new board.")
@click.pass_context
def build(ctx: click.Context, entries: Path, out: Path) -> None:
    """Turn entries into a static site. Entries with complaints are left out; exit code 1 if there are any."""
    from unfooled.leaderboard import board

    found = board.build(entries, out)
    for complaint in found.complaints:
        click.echo(complaint, err=True)
    click.echo(out / "index.html")
    ctx.exit(1 if found.complaints else 0)


@leaderboard.command()
@click.option("--out", type=FOLDER, default=Path("site"), show_default=True, help="The folder that build made.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: a free one.")
def serve(out: Path, port: int) -> None:
    """Show a built board to this machine alone, until Ctrl-C."""
    from contextlib import suppress

    from unfooled.leaderboard import board

    server = board.server(out, port)
    click.echo(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)", err=True)
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()
