"""What several commands share: option groups, progress bars on stderr, tables on stdout."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transect.files import plain

if TYPE_CHECKING:
    from transect.models.models import Model
    from transect.results.table import Table
    from transect.store.store import Store


def options(*several: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several click options as one decorator, shown in this order."""

    def add(func: Any) -> Any:
        for option in reversed(several):
            func = option(func)
        return func

    return add


OUT = click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the results.")
JSON = click.option("--json", "as_json", is_flag=True, help="Rows as JSON on stdout, for machines.")
SEED = click.option("--seed", default=0, show_default=True, help="Seed of every random choice.")
DRAW = options(
    click.option("--sites", default="resid", show_default=True, help="Family or single site."),
    click.option(
        "--tokens",
        default="all",
        show_default=True,
        help='"all", "last", "mean", "landmark:NAME+k", a position.',
    ),
    click.option(
        "--position0", is_flag=True, help="Keep the first token of every text (dropped by default: the sink)."
    ),
    click.option(
        "--n", type=int, default=None, help="Points per cloud.  [default: 1000, or what half the texts hold]"
    ),
    click.option("--groups", default=10, show_default=True, help="Groups of texts behind the intervals."),
    SEED,
)


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
        "--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, callback=_engine,
        help="Worker processes here, or Ray.",
    ),
    click.option(
        "--address", is_eager=True, expose_value=False, callback=_keep, help="Ray cluster to join, or auto.  [default: one on this machine]",
    ),
    click.option("--workers", type=int, default=None, help="Worker processes.  [default: one per core]"),
)  # fmt: skip
WORK = options(
    ENGINE,
    click.option(
        "--shard", "part", is_eager=True, expose_value=False, callback=_keep,
        help="Do part k of n, like 2/8, with others on the same --out; then wait for theirs.",
    ),
)  # fmt: skip
MODEL = options(
    click.option(
        "--dtype",
        default=None,
        help="float32, bfloat16 or float16.  [default: float32 on CPU, else the model's]",
    ),
    click.option("--device", default=None, help="cpu, cuda, …"),
    click.option(
        "--device-map",
        default=None,
        help="auto, balanced, …: a model larger than one device, over all of them.",
    ),
    click.option(
        "--quantize", type=click.Choice(["4bit", "8bit"]), default=None, help="Load with bitsandbytes."
    ),
    click.option("--revision", default=None, help="Revision on the hub."),
    click.option(
        "--trust-remote-code", is_flag=True, help="Run code that comes with the model. Off unless you ask."
    ),
)
TEXTS = options(
    click.option("--column", default=None, help='Column with the text.  [default: "text"]'),
    click.option("--label", default=None, help="Columns to keep as labels, separated by commas."),
    click.option("--split", default=None, help="Split of a data set."),
    click.option("--config", default=None, help="Configuration of a data set."),
    click.option("--chat", is_flag=True, help="Put each text into the model's chat template."),
    click.option("--max-length", type=int, default=None, help="Cut texts at so many tokens."),
)


def the_model(spec: str, kwargs: dict[str, Any], seed: int = 0) -> "Model":
    """Open a model from the options of MODEL, taking them out of `kwargs`."""
    from transect.models.models import open_model

    names = ("dtype", "device", "device_map", "quantize", "revision", "trust_remote_code")
    with spinner(f"opening {spec}"):
        return open_model(spec, seed=seed, **{k: kwargs.pop(k) for k in names})


def the_stores(paths: tuple[str, ...] | list[str]) -> "list[Store]":
    """Open stores; unfinished ones are refused here, before hours are spent."""
    from transect.errors import TransectError
    from transect.store.store import open_store

    stores = [open_store(p) for p in paths]
    for store in stores:
        if store.unfinished:
            raise TransectError(
                f"{store.path}: {len(store.unfinished)} of {len(store.plan)} shards are not captured yet.",
                "Run the same capture again: it resumes.",
            )
    return stores


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """A line on stderr while something takes its time."""
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars on stderr, one per step: call with (step, done, total)."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        "[progress.description]{task.description:<18}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    shown = [TextColumn(c) if isinstance(c, str) else c for c in columns]
    with Progress(*shown, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}

        def told(step: str, done: int, total: int) -> None:
            if step not in tasks or (progress.tasks[tasks[step]].finished and done < total):
                tasks[step] = progress.add_task(step, total=total)
            progress.update(tasks[step], completed=done, total=total)

        yield told


def show(table: "Table", as_json: bool = False, most: int = 200) -> None:
    """A table on stdout: aligned columns for people, JSON for machines."""
    rows = list(table)
    if as_json:
        click.echo(json.dumps(rows, default=str))
        return
    hidden = {
        "replicates",
        "halves",
        "null_draws",
        "null_low",
        "null_high",
        "corrected_low",
        "corrected_high",
    }
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


def finish(study: Any, out: Path, quiet: bool = False) -> None:
    """Save a study, its figures and its page; say where."""
    from transect.page.report import report
    from transect.results.drawing import save_all

    study.save(out)
    with spinner("drawing"):
        save_all(study, out)
        page = report(study, out / "report.html", figures=out / "figures")
    if not quiet:
        for finding in study.findings:
            click.echo(plain(f"· {finding}"))
        for warning in study.warnings:
            click.echo(plain(f"! {warning}"), err=True)
    click.echo(f"tables   {out}/*.parquet\nfigures  {out}/figures/\nreport   {page}", err=True)
