"""`transect info DIR`."""

import json
import sys
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("store")
@click.option("--verify", is_flag=True, help="Read every file again and compare checksums.")
@click.option("--json", "as_json", is_flag=True, help="What the folder says of itself, as JSON on stdout.")
def info(store: str, verify: bool, as_json: bool) -> None:
    """What a store, a study or a training run holds; with --verify whether it is sound."""
    from transect.errors import TransectError
    from transect.files import is_remote, place

    folder = place(store)
    kind = "store"
    if not is_remote(folder) and not (folder / "manifest.json").is_file():
        marks = (("study.json", "study"), ("recipe.json", "run"))
        kind = next((name for file, name in marks if (folder / file).is_file()), "store")
    problems, bare = {"store": _store, "study": _study, "run": _run}[kind](folder, verify, as_json)
    if problems:
        remedy = {
            "store": "Delete the named shards with their receipts (.json) and capture again.",
            "study": "Run the study again; finished cells are kept.",
            "run": "Delete the named files or checkpoints, or train into another folder.",
        }
        raise TransectError(f"{store}: {'; '.join(problems)}.", remedy[kind])
    if verify:
        if bare:
            click.echo(f"no checksum (written by an earlier version): {', '.join(bare)}", err=True)
        summary = {
            "store": "all shards are as they were written",
            "study": "all tables are",
            "run": "all files are",
        }
        click.echo(summary[kind] + ("" if kind == "store" else " as they were written"), err=True)


def _say(line: str) -> None:
    from transect.errors import plain

    click.echo(plain(line))


def _json(value: dict[str, Any]) -> None:
    from transect.files import dumps

    sys.stdout.write(dumps(value) + "\n")


def _study(folder: Path, verify: bool, as_json: bool) -> tuple[list[str], list[str]]:
    """Say what a study holds; (problems, files without a checksum)."""
    from transect.results.study import study_json, verify_study

    record = study_json(folder)
    problems, bare = verify_study(folder) if verify else ([], [])
    if as_json:
        _json(record | {"problems": problems})
    else:
        _say(f"{folder}: the study {record['name']}: {record['question']}")
        _say(f"  tables   {', '.join(record['tables']) or 'none'}")
        _say(f"  figures  {', '.join(f['name'] for f in record['figures']) or 'none'}")
        for finding in record["findings"]:
            _say(f"  found    {finding}")
    return problems, bare


def _run(folder: Path, verify: bool, as_json: bool) -> tuple[list[str], list[str]]:
    """Say what a training run is; (problems, what has no checksum)."""
    from transect.files import read_json
    from transect.train.state import kept, verify_run

    record = read_json(folder / "recipe.json", "run", "Choose another --out.")
    problems, bare = verify_run(folder) if verify else ([], [])
    if as_json:
        _json(record | {"problems": problems})
    else:
        done = "finished" if (folder / "result.json").is_file() else f"not finished, {kept(folder)}"
        _say(f"{folder}: a training run, {done}")
        for name, value in record.items():
            _say(f"  {name:<16} {json.dumps(value, ensure_ascii=False)}")
    return problems, bare


def _store(folder: Any, verify: bool, as_json: bool) -> tuple[list[str], list[str]]:
    """Say what a store holds; (problems, files without a checksum)."""
    from transect.store.store import open_store

    opened = open_store(folder)
    problems = opened.verify() if verify else []
    if as_json:
        problems_found = {"problems": problems, "unfinished": opened.unfinished}
        _json(opened.manifest | problems_found | {"max_abs": {} if problems else opened.ranges()})
    elif not problems:
        _describe(opened)
    if opened.unfinished:
        click.echo(
            f"transect: {len(opened.unfinished)} of {len(opened.plan)} shards are not captured yet.", err=True
        )
    return problems, opened.unsealed() if verify and not problems else []


def _describe(opened: Any) -> None:
    from transect.models import sites

    m = opened.manifest
    families: dict[str, list[str]] = {}
    for site in opened.sites:
        families.setdefault(sites.family(site), []).append(site)
    peaks, additive = opened.ranges(), m["additive_error"]
    model, kept = m["model"], f"positions {m['positions']}"
    if m["pool"]:
        kept = f"one {'point' if m['pool'] == 'given' else m['pool']} per {opened.unit}"
    count = f"{len(opened)} {opened.unit}s, {int(opened.start[-1]):,} rows"
    _say(f"{opened.path}: {count}, {len(opened.plan)} shards")
    _say(f"  model    {model['spec']} ({model['kind']}), weights {model['fingerprint']['weights'][:12]}")
    _say(f"  texts    {m['texts']['spec']}, fingerprint {m['texts']['fingerprint']}")
    _say(
        f"  labels   {', '.join(opened.labels) or 'none'}; landmarks {', '.join(opened.landmarks) or 'none'}"
    )
    _say(
        f"  dtype    computed in {m['dtype']['compute']}, stored as {m['dtype']['store']}; "
        f"attention {m['attention']}"
    )
    _say(f"  kept     {kept}; max length {m['max_length'] or 'none'}; captured {m['created']}")
    for name, members in families.items():
        width = "/".join(map(str, sorted({opened.width(s) for s in members})))
        peak = max(peaks[s] for s in members)
        _say(f"  {name:<12} {len(members):>3} sites × {width}, largest |x| {peak:,.1f}")
    error_text = "not checked" if additive is None else f"relative error {additive:.0e}"
    _say(f"  sublayers add up to the block: {error_text}")
    versions = ", ".join(f"{k} {v}" for k, v in m["origin"].items())
    _say(f"  made by  {versions}; fingerprint {opened.fingerprint}")
