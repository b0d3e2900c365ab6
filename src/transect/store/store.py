"""The store: captured points of every site with their tokens, labels and provenance. Only this file knows the
format.

    manifest.json        what was captured, from what, with what; written first, never changed
    plan.json            shards → batches → texts, decided before the first forward pass
    texts.parquet        a row per text: id, hash, text, tokens, offsets, labels, landmarks, its rows
    shards/00000.safetensors   site → [rows, width], real tokens only, a text's rows together
    shards/00000.json          receipt: written after its shard; checksum, range of every site, splits

A shard counts when its receipt is there. Readable without this code: safetensors, Parquet and JSON. Nothing
here needs torch.
"""

import functools
import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any, SupportsIndex

import numpy as np

from transect.errors import TransectError, nearest
from transect.files import Place, file_hash, is_remote, is_sealed, place, reaching, read_json
from transect.models import sites as site_names
from transect.store.checks import ELSEWHERE, check_hash, check_index, check_manifest
from transect.store.selection import Selection, positions
from transect.store.shards import Shard, damaged_shard, map_shard, shard_name, widen
from transect.store.shown import Shown
from transect.store.units import units_of

FORMAT = 1


def open_store(path: Place) -> "Store":
    """The store in folder `path`, at hf://OWNER/NAME, or at PROTOCOL://… that fsspec reaches. TransectError
    when there is none, or it is damaged."""
    if str(path).startswith("hf://"):
        from transect.store.hub import fetched

        path = fetched(str(path))
    return Store(place(path))


class Store(Shown):
    """Captured points, read lazily and by site. Rows follow the order of the texts, then of their tokens."""

    def __init__(self, path: Place) -> None:
        self.path = path
        self.manifest: dict[str, Any] = read_json(path / "manifest.json", "store", ELSEWHERE)
        if (version := self.manifest.get("format")) != FORMAT:
            raise TransectError(f"{path}: store format {version!r}, this version reads {FORMAT}.")
        self.plan: list[list[list[int]]] = read_json(path / "plan.json", "store", ELSEWHERE, object)
        check_manifest(path, self.manifest, self.plan)
        self.sites: list[str] = list(self.manifest["sites"])
        self._load_index()

    def _load_index(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            index = self.path / "texts.parquet"
            with reaching(index):
                source = io.BytesIO(index.read_bytes()) if is_remote(index) else index
            self.index = pq.read_table(source, page_checksum_verification=True)
            check_index(self.path, self.index, len(self.plan))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise TransectError(f"{self.path}: texts.parquet cannot be read ({error}).", ELSEWHERE) from error
        held = isinstance(source, io.BytesIO)
        digest = hashlib.sha256(source.getvalue()).hexdigest() if held else file_hash(index)
        check_hash(self.path, "texts.parquet", digest, self.manifest["index_sha256"])
        digest = hashlib.sha256(json.dumps(self.plan).encode()).hexdigest()
        check_hash(self.path, "plan.json", digest, self.manifest.get("plan_hash"))
        self.ids: list[str] = self.index["id"].to_pylist()
        self.lengths = self._column("length")  # tokens per text
        self.rows = self._column("rows")  # stored rows per text: fewer where positions were selected
        self._shard, self._row = self._column("shard"), self._column("row")
        self.start = np.concatenate([[0], np.cumsum(self.rows)])

    def _column(self, name: str) -> np.ndarray:
        return self.index[name].to_numpy().astype(np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        counts = f"{len(self)} {self.unit}s, {self.start[-1]} rows, {len(self.sites)} sites"
        return f"<store {self.path}: {self.name}, {counts}>"

    @property
    def name(self) -> str:
        """The model's short name, as figures show it."""
        return self.manifest["model"]["name"]

    @property
    def unit(self) -> str:
        """What one sample is called: "text", or "sample" where arrays came without texts."""
        return "sample" if self.manifest.get("unit") == "sample" else "text"

    @property
    def fingerprint(self) -> str:
        """Identity of what was captured: model, texts, plan, options."""
        return self.manifest["fingerprint"]

    @functools.cached_property
    def content(self) -> str:
        """Sixteen hex digits of what the finished shards hold, by their receipts: another capture, another
        content."""
        parts = [self.fingerprint, *(str(r.get("sha256")) for r in self.check_receipts().values())]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    @functools.cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """Labels by name, one per text."""
        names = [n for n in self.index.column_names if n.startswith("label:")]
        return {n.removeprefix("label:"): np.asarray(self.index[n].to_pylist()) for n in names}

    @property
    def landmarks(self) -> list[str]:
        """Names that `tokens="landmark:NAME"` takes."""
        return [n.removeprefix("landmark:") for n in self.index.column_names if n.startswith("landmark:")]

    def label(self, name: str) -> np.ndarray:
        """One label, [texts]."""
        if name not in self.labels:
            why = f"{self.path}: no label {name!r}.{nearest(name, self.labels)}"
            raise TransectError(why, f"Labels here: {', '.join([*self.labels][:20]) or 'none'}.")
        return self.labels[name]

    units = functools.cached_property(units_of)

    def text(self, i: SupportsIndex) -> str:
        """The i-th text."""
        return self.index["text"][int(i)].as_py()

    def tokens(self, i: SupportsIndex) -> list[str]:
        """The i-th text's tokens as strings."""
        return self.index["pieces"][int(i)].as_py()

    def token_ids(self, i: SupportsIndex) -> np.ndarray:
        """The i-th text's token ids."""
        return np.asarray(self.index["tokens"][int(i)].as_py())

    def same_tokens(self, other: "Store") -> bool:
        """Whether both stores hold the same token ids for the same texts, position by position."""
        return self.manifest["tokens_hash"] == other.manifest["tokens_hash"]

    # reading

    def width(self, site: str) -> int:
        """Dimensions of a site."""
        return self.manifest["sites"][self.check_site(site)]["width"]

    def check_site(self, site: str) -> str:
        """`site`, if it was captured."""
        if not isinstance(site, str) or site not in self.manifest["sites"]:
            families = ", ".join(dict.fromkeys(site_names.family(s) for s in self.sites))
            raise TransectError(
                f"{self.path}: no site {site!r}; captured: {families} ({self.sites[0]} … {self.sites[-1]})."
                f"{nearest(str(site), self.sites)}",
                f"Capture again with --sites {site_names.family(str(site))}.",
            )
        return site

    def select(self, tokens: str | int = "all", position0: bool = True) -> Selection:
        """Which rows `tokens` names: see `points`. The selection tells the text and position of every row."""
        if self.manifest["pool"] and tokens not in ("all", "mean"):
            raise TransectError(
                f"{self.path}: holds one pooled point per text, not tokens={tokens!r}.",
                "Capture with pool=None.",
            )
        return positions(self, tokens, position0)

    def points(
        self,
        site: str,
        tokens: str | int = "all",
        *,
        position0: bool = True,
        massive: float | int | None = None,
        missing: str = "refuse",
    ) -> np.ndarray:
        """Points of one site, float32 [n, width], in the order of the texts.

        tokens: "all" · "last" (the last that is not special) · "mean" (one point per text) · "landmark:month"
        · "landmark:month+3" · an absolute position, from the end when negative. position0=False leaves out
        the first real token of every text, massive=10 those whose norm exceeds 10 × the median: what studies
        leave out, as a few such tokens rule every statistic of second moments. A text without such a token is
        refused, or left out with missing="drop"; `select` says which text and position each row is.
        """
        selection = self.select(tokens, position0)
        if selection.missing and missing != "drop":
            raise TransectError(
                f"{self.path}: {len(selection.missing)} of {len(self)} texts have no token at {tokens!r} "
                f"(first: {self.ids[selection.missing[0]]}).",
                'Pass missing="drop" to leave those texts out.',
            )
        X = self.take(site, selection)
        if massive:
            norms = np.linalg.norm(X, axis=1)
            X = X[norms <= massive * np.median(norms)]
        return X

    def take(self, site: str, selection: Selection) -> np.ndarray:
        """The points of a selection, float32 [n, width]; "mean" averages each text's rows in float64."""
        if not selection.pooled:
            return self.read(site, selection.rows)
        out = np.empty((len(selection.texts), self.width(site)), np.float32)
        for k, (first, last) in enumerate(selection.spans):
            out[k] = self.read(site, np.arange(first, last)).mean(axis=0, dtype=np.float64)
        return out

    def sample(self, i: SupportsIndex, site: str) -> np.ndarray:
        """The i-th text's own points, float32 [rows, width], in their order."""
        if not hasattr(i, "__index__") or not -len(self) <= (i := int(i)) < len(self):
            raise TransectError(f"{self.path}: no text {i!r:.80}; there are {len(self)}.")
        i %= len(self)
        return self.read(site, np.arange(self.start[i], self.start[i + 1]))

    def blocks(self, site: str, max_bytes: int = 64 << 20, position0: bool = True) -> Iterator[np.ndarray]:
        """All points in blocks of whole texts, float32 [rows, width], for sums that must not hold
        everything."""
        for part in self.select("all", position0).split(max(1, max_bytes // (4 * self.width(site)))):
            yield self.read(site, part)

    def read(self, site: str, rows: np.ndarray) -> np.ndarray:
        """Rows by their number in text order, as float32 [len(rows), width]."""
        out = np.empty((len(rows), self.width(self.check_site(site))), np.float32)
        if len(rows) == self.start[-1] and np.array_equal(rows, np.arange(len(rows))):
            return self._read_all(site, out)
        text = np.searchsorted(self.start, rows, side="right") - 1
        local = self._row[text] + rows - self.start[text]
        for k in np.unique(self._shard[text]):
            here = np.flatnonzero(self._shard[text] == k)
            out[here] = widen(self._mapped(int(k)).arrays[site][local[here]])
        return out

    def _read_all(self, site: str, out: np.ndarray) -> np.ndarray:
        at, rows = -1, np.empty(0)
        for i in np.argsort(self._shard, kind="stable").tolist():
            if self._shard[i] != at:  # one read a shard, where it is remote
                at = int(self._shard[i])
                rows = self._mapped(at).arrays[site][:]
            begin, row, n = self.start[i], self._row[i], self.rows[i]
            out[begin : begin + n] = widen(rows[row : row + n])
        return out

    @functools.lru_cache(maxsize=512)  # noqa: B019  a store lives as long as the process that reads it
    def _mapped(self, k: int) -> Shard:
        if not self.receipt(k).exists():
            raise TransectError(
                f"{self.path}: shard {k + 1} of {len(self.plan)} was not captured.",
                "Run the same capture again: it resumes.",
            )
        self.shard_receipt(k)
        shard, rows = map_shard(self.shard(k)), self.rows_in(k)
        for site in self.sites:
            if site not in shard.arrays or shard.arrays[site].shape != (rows, self.width(site)):
                raise TransectError(
                    f"{shard.path}: does not hold {rows} rows of {self.width(site)} at {site}.",
                    damaged_shard(shard.path),
                )
        return shard

    # state

    def shard(self, k: int) -> Place:
        """The file of shard k."""
        return self.path / "shards" / shard_name(k)

    def receipt(self, k: int) -> Place:
        """What was noted when shard k was finished."""
        return self.shard(k).with_suffix(".json")

    def rows_in(self, k: int) -> int:
        """Rows that shard k holds when it is finished."""
        return int(self.rows[self._shard == k].sum())

    @property
    def unfinished(self) -> list[int]:
        """Shards still to be captured."""
        return [k for k in range(len(self.plan)) if not self.receipt(k).exists()]

    def ranges(self) -> dict[str, float]:
        """Largest |x| seen at each site."""
        peak = dict.fromkeys(self.sites, 0.0)
        for k, receipt in self.check_receipts().items():
            seen = receipt.get("max_abs")
            if not isinstance(seen, dict) or not all(isinstance(v, float | int) for v in seen.values()):
                raise TransectError(f"{self.receipt(k)}: damaged (no ranges).", damaged_shard(self.shard(k)))
            for site in peak.keys() & seen.keys():
                peak[site] = max(peak[site], seen[site])
        return peak

    def shard_receipt(self, k: int) -> dict[str, Any]:
        """The receipt of shard k. Raises: TransectError when it is damaged, or that of another capture."""
        receipt = read_json(self.receipt(k), "receipt", damaged_shard(self.shard(k)))
        written = receipt.get("capture", self.fingerprint)
        check_hash(self.path, self.receipt(k).name, written, self.fingerprint)
        return receipt

    def check_receipts(self) -> dict[int, dict[str, Any]]:
        """The receipts of all finished shards by number. Raises: TransectError for one of another capture."""
        return {k: self.shard_receipt(k) for k in sorted(set(range(len(self.plan))) - set(self.unfinished))}

    def verify(self) -> list[str]:
        """Problems found by reading every shard again: [] when all is well. The frame was checked on
        opening."""
        problems = [f"shard {k + 1} of {len(self.plan)} is missing" for k in self.unfinished]
        for k in sorted(set(range(len(self.plan))) - set(self.unfinished)):
            try:
                wanted, actual = str(self.shard_receipt(k)["sha256"]), file_hash(self.shard(k))
                map_shard(self.shard(k))
            except (OSError, TransectError, KeyError, TypeError) as error:
                problems.append(f"{self.shard(k).name}: {error}")
                continue
            if wanted != actual:
                told = f"checksum {actual[:12]}…, was {wanted[:12]}… when written"
                problems.append(f"{self.shard(k).name}: {told}")
        return problems

    def unsealed(self) -> list[str]:
        """Files that an earlier version wrote without a checksum of their own."""
        finished = set(range(len(self.plan))) - set(self.unfinished)
        files = [self.path / "manifest.json", *(self.receipt(k) for k in sorted(finished))]
        without = [file.name for file in files if not is_sealed(file)]
        return without if "plan_hash" in self.manifest else [*without, "plan.json"]
