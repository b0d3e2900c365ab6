"""`transect neurons STORE …`, `transect neurons match STORE OTHER …` and `transect neurons prune MODEL …`."""

from typing import Any

import click

from transect.cli.studies import study_command


class Neurons(click.Group):
    """What is no subcommand's name is a store: `transect neurons STORE` is short for `transect neurons map
    STORE`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The studies of neurons."""
        return ["map", "match", "prune"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A study's own command."""
        folders = {"map": "neurons", "match": "match", "prune": "pruning"}
        return study_command(folders[cmd_name], cmd_name) if cmd_name in folders else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Route to `map` unless a subcommand is named."""
        if args and args[0] not in self.list_commands(ctx):
            args.insert(0, "map")
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options before the store belong to `map` as well."""
        if args and args[0] not in (*self.list_commands(ctx), "-h", "--help"):
            args.insert(0, "map")
        return super().parse_args(ctx, args)


@click.group(cls=Neurons)
def neurons() -> None:
    """Lay neurons out by correlation (map), find them in another run (match), or prune them (prune)."""
