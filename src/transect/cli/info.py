"""`transect info DIR`."""

import json
import sys

import click


@click.command()
@click.argument("store")
@click.option("--verify", is_flag=True, help="Read every shard again and compare checksums.")
@click.option("--json", "as_json", is_flag=True, help="The manifest as JSON on stdout.")
def info(store: str, verify: bool, as_json: bool) -> None:
    """What a store holds: model, texts, sites, ranges, provenance; with --verify whether it is sound."""
    from transect.errors import TransectError
    from transect.files import plain
    from transect.models import sites
    from transect.store.store import open_store

    def say(line: str) -> None:
        click.echo(plain(line))

    opened = open_store(store)
    problems = opened.verify() if verify else []
    m = opened.manifest
    if as_json:
        json.dump(
            m | {"problems": problems, "unfinished": opened.unfinished, "max_abs": opened.ranges()},
            sys.stdout,
        )
        click.echo()
    else:
        families: dict[str, list[str]] = {}
        for site in opened.sites:
            families.setdefault(sites.family(site), []).append(site)
        peaks, additive = opened.ranges(), m["additive_error"]
        say(f"{opened.path}: {len(opened)} texts, {int(opened.start[-1]):,} rows, {len(opened.plan)} shards")
        say(
            f"  model    {m['model']['spec']} ({m['model']['kind']}), weights {m['model']['fingerprint']['weights'][:12]}"
        )
        say(f"  texts    {m['texts']['spec']}, fingerprint {m['texts']['fingerprint']}")
        say(
            f"  labels   {', '.join(opened.labels) or 'none'}; landmarks {', '.join(opened.landmarks) or 'none'}"
        )
        say(
            f"  dtype    computed in {m['dtype']['compute']}, stored as {m['dtype']['store']}; attention {m['attention']}"
        )
        kept = "one mean per text" if m["pool"] else f"positions {m['positions']}"
        say(f"  kept     {kept}; max length {m['max_length'] or 'none'}; captured {m['created']}")
        for name, members in families.items():
            width = {opened.width(s) for s in members}
            peak = max(peaks[s] for s in members)
            say(
                f"  {name:<12} {len(members):>3} sites × {'/'.join(map(str, sorted(width)))}, largest |x| {peak:,.1f}"
            )
        say(
            f"  sublayers add up to the block: {'not checked' if additive is None else f'relative error {additive:.0e}'}"
        )
        versions = ", ".join(f"{k} {v}" for k, v in m["origin"].items())
        say(f"  made by  {versions}; fingerprint {opened.fingerprint}")
    if opened.unfinished:
        click.echo(
            f"transect: {len(opened.unfinished)} of {len(opened.plan)} shards are not captured yet.", err=True
        )
    if problems:
        raise TransectError(
            f"{store}: {'; '.join(problems)}.",
            "Delete the named shards with their receipts (.json) and capture again.",
        )
    if verify:
        click.echo("all shards are as they were written", err=True)
