"""Published claims as data: the file claims.toml, read and checked."""

import functools
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transect.errors import TransectError, nearest
from transect.results.table import Table


@dataclass(frozen=True)
class Claim:
    """What a paper says, and what is measured of it. `low`, `high`: the published range, if any."""

    name: str
    paper: str
    claim: str
    number: str
    models: list[str]
    measures: str
    unit: str
    year: int | None = None
    arxiv: str = ""
    scope: str = "model"
    low: float | None = None
    high: float | None = None
    needs: list[str] = field(default_factory=list)
    texts: str = "gsm-test:16"

    @property
    def source(self) -> str:
        """Paper, year and where it is, where it has them."""
        parts = [str(self.year)] if self.year else []
        parts += [f"arXiv:{self.arxiv}"] if self.arxiv else []
        return f"{self.paper} ({', '.join(parts)})" if parts else self.paper

    @property
    def command(self) -> str:
        """What measures it on the default model."""
        more = "".join(f" --{name} {name.upper()}" for name in self.needs)
        return f"transect reproduce {self.name} --model smollm2{more} --out runs/{self.name}"


@functools.cache
def claims() -> dict[str, Claim]:
    """Name → claim, in the order of the file."""
    table = tomllib.loads((Path(__file__).parent / "claims.toml").read_text(encoding="utf-8"))
    return {name: Claim(name, **entry) for name, entry in table.items()}


def find(name: str) -> Claim:
    """The claim of a name. Raises: TransectError, with near names."""
    if name not in claims():
        raise TransectError(
            f"no claim {name!r}.{nearest(name, claims())}", "transect reproduce --list shows all of them."
        )
    return claims()[name]


def listing() -> Table:
    """All claims, a row each."""
    rows: list[dict[str, Any]] = []
    for c in claims().values():
        row: dict[str, Any] = {"measure": "claim", "name": c.name, "paper": c.source, "claim": c.claim}
        row |= {"number": c.number, "models": ", ".join(c.models), "measures": c.measures}
        rows.append(row | {"command": c.command, "status": "ok"})
    return Table(rows)
