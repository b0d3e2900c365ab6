"""A published claim, measured again: the published number beside ours, with interval, control and outcome.
`transect reproduce --list` shows all of them."""

from typing import Any

import click

from transect.cli.shared import show
from transect.cli.studies import study_command
from transect.studies.reproduce.claims import listing

reproduce = study_command("reproduce")


def _listed(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
    """Print all claims and stop."""
    if value and not ctx.resilient_parsing:
        rows = listing()
        rows.arrow = rows.arrow.select(["name", "paper", "number", "command"])
        show(rows)
        ctx.exit()


reproduce.params.insert(
    0,
    click.Option(
        ["--list"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_listed,
        help="All claims, and stop.",
    ),
)
