"""What several commands share: option groups, progress bars on stderr, tables on stdout."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transect.cli.options import PathName, WholeRange
from transect.errors import TransectError, plain

if TYPE_CHECKING:
    from transect.results.table import Table

#: What a figure can be written as.
KINDS = ("pdf", "svg", "png")


def options(*several: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several click options as one decorator, shown in this order."""

    def add(func: Any) -> Any:
        for option in reversed(several):
            func = option(func)
        return func

    return add


OUT = click.option("--out", type=PathName(), required=True, help="Folder for the results.")
JSON = click.option("--json", "as_json", is_flag=True, help="Rows as JSON on stdout, for machines.")
SEED = click.option(
    "--seed", type=WholeRange(0), default=0, show_default=True, help="Seed of every random choice."
)


OVERWRITE = click.option(
    "--overwrite", is_flag=True, help="Replace the store, study or run that --out holds, once this is done."
)


def _formats(_context: Any, _parameter: Any, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
    if unknown := [name for name in names if name not in KINDS]:
        raise TransectError(
            f"--formats: no figure is written as {unknown[0]!r}.", f"Choose of {', '.join(KINDS)}."
        )
    return names


FORMATS = click.option(
    "--formats",
    default=",".join(KINDS),
    show_default=True,
    callback=_formats,
    help="What each figure is written as.",
)


@contextmanager
def room_for(out: Any, overwrite: bool, values: dict[str, Any]) -> Iterator[None]:
    """`out`, free for what a command makes of `values`: replaced where that was asked for."""
    from transect.files import place
    from transect.work.folders import replacing

    values_of = (value for name, value in values.items() if name != "out")
    several = [v for value in values_of for v in (value if isinstance(value, tuple | list) else (value,))]
    shared = str(values.get("engine", "")).startswith("part:") or values.get("shard", "1/1") != "1/1"
    if overwrite and (shared or int(os.environ.get("WORLD_SIZE") or 1) > 1):
        raise click.UsageError(
            "--overwrite with several processes: delete the folder once, before they start."
        )
    with replacing(place(str(out)), overwrite, several):
        yield


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    ctx.meta[f"transect.{param.name}"] = value


def _engine(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """The engine in one word, as `run_blocks` takes it: address and share come from their own options."""
    address, part = (ctx.meta.get(f"transect.{name}") for name in ("address", "part"))
    if part and value != "local":
        raise click.BadParameter(
            f"{part!r} with --engine {value}: Ray shares the work itself.", param_hint="--shard"
        )
    if part:
        from transect.work.parts import part_of

        part_of(part)  # refused here, before anything is opened
    if address and value != "ray":
        raise click.BadParameter("a cluster is joined with --engine ray.", param_hint="--address")
    return f"part:{part}" if part else f"{value}@{address}" if address else value


#: Who works; the address and the share of other processes are part of the engine's name.
ENGINE = options(
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        callback=_engine,
        help="Worker processes here, or Ray.",
    ),
    click.option(
        "--address",
        is_eager=True,
        expose_value=False,
        callback=_keep,
        help="Ray cluster to join, or auto; by default one on this machine.",
    ),
)
SHARE = click.option(
    "--shard",
    "part",
    is_eager=True,
    expose_value=False,
    callback=_keep,
    help="Do part k of n, like 2/8, with others on the same --out; then wait for theirs.",
)


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """A line on stderr while something takes its time."""
    if not sys.stderr.isatty():
        click.echo(f"transect: {what}", err=True)
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


#: Seconds between two lines of progress where stderr is no terminal.
PACE = 10.0


@contextmanager
def bars() -> Iterator[Callable[..., None]]:
    """Progress on stderr, one line a step: call with (step, done, total) and, where there is more to say, a
    word beside the bar. Bars on a terminal, plain lines in a log; also a file, where TRANSECT_PROGRESS names
    one."""
    if not sys.stderr.isatty():
        file = os.environ.get("TRANSECT_PROGRESS")
        yield noted(Path(file), plain_lines()) if file else plain_lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    shown = [TextColumn("[progress.description]{task.description:<18}", markup=False), BarColumn()]
    shown += [MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    shown += [TextColumn("{task.fields[said]}", markup=False)]
    with Progress(*shown, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}

        def update(step: str, done: int, total: int, said: str = "") -> None:
            if step not in tasks or (progress.tasks[tasks[step]].finished and done < total):
                tasks[step] = progress.add_task(step, total=total, said=said)
            progress.update(tasks[step], completed=done, total=total, said=said)

        yield update


def noted(file: Path, report: Callable[..., None], pace: float = 0.5) -> Callable[..., None]:
    """Progress that is also written to a file, at most every `pace` seconds and as a step ends: what the app
    shows of a command that it started."""
    from transect.files import write_json

    last = -pace

    def both(step: str, done: int, total: int, said: str = "") -> None:
        nonlocal last
        report(step, done, total, said)
        if done >= total or time.monotonic() - last >= pace:
            last = time.monotonic()
            write_json(file, {"step": step, "done": done, "total": total, "said": said, "at": time.time()})

    return both


def plain_lines(clock: Callable[[], float] = time.monotonic) -> Callable[..., None]:
    """Progress as lines with an estimate of what is left: one as a step begins, one every ten seconds, and
    one at its end."""
    begun: dict[str, float] = {}
    last: dict[str, float] = {}

    def update(step: str, done: int, total: int, said: str = "") -> None:
        now = clock()
        if step not in begun and done < total:
            begun[step] = last[step] = now
            click.echo(plain(f"transect: {step}: {done} of {total}"), err=True)
            return
        begun.setdefault(step, now)
        if done < total and now - last.get(step, begun[step]) < PACE:
            return
        last[step] = now
        spent = now - begun[step]
        left = f", about {spent / done * (total - done):.0f} s left" if 0 < done < total else ""
        also = f"; {said}" if said else ""
        click.echo(plain(f"transect: {step}: {done} of {total}, {spent:.0f} s{left}{also}"), err=True)
        if done >= total:
            begun.pop(step), last.pop(step)

    return update


def show(table: "Table", as_json: bool = False, most: int = 200) -> None:
    """A table on stdout: aligned columns for people, JSON for machines."""
    rows = list(table)
    if as_json:
        click.echo(json.dumps(rows, default=str, allow_nan=False))
        return
    hidden = {"replicates", "corrected_replicates", "halves", "null_draws", "null_low", "null_high"}
    hidden |= {"corrected_low", "corrected_high", "p_cell"}
    names = [c for c in table.columns if c not in hidden and any(r[c] is not None for r in rows)]
    names = [
        c for c in names if c in ("value", "status") or len({str(r[c]) for r in rows}) > 1 or len(rows) == 1
    ]
    lines = [names, *([_cell(r[c]) for c in names] for r in rows[:most])]
    widths = [max(len(line[k]) for line in lines) for k in range(len(names))]
    for line in lines:
        click.echo("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())
    if len(rows) > most:
        click.echo(f"… {len(rows) - most} more rows; --json prints all.", err=True)


def _cell(value: Any) -> str:
    text = "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return "".join(c for c in text if c.isprintable())


def finish(study: Any, out: Path, formats: Sequence[str] = KINDS, quiet: bool = False) -> None:
    """Save a study, its figures and its page; say where."""
    from transect.page.report import report
    from transect.results.drawing import save_all

    study.save(out)
    with spinner("drawing"):
        save_all(study, out, formats)
        page = report(study, out / "report.html", figures=out / "figures" if "svg" in formats else None)
    if not quiet:
        for finding in study.findings:
            click.echo(plain(f"· {finding}"))
        for warning in study.warnings:
            click.echo(plain(f"! {warning}"), err=True)
    click.echo(f"tables   {out}/*.parquet\nfigures  {out}/figures/\nreport   {page}", err=True)
