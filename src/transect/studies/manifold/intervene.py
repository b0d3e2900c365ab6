"""Intervention: move points along a fitted manifold inside the model, and see whether the next token follows.

A map says where a feature can be read; this says where it is used. At one token of one site each held-out
text is moved from its own label to another one (a date by 90 days), and the model's next-token distribution
is compared with the unmoved one, beside moves of equal size in random subspaces.
"""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.errors import TransectError
from transect.results.study import Figure, Study, describe_run
from transect.results.table import Table
from transect.store.recapture import model_or_refuse
from transect.store.store import Store
from transect.studies.manifold.moves import next_token, plan_move
from transect.studies.manifold.plan import MapJob, read_labels
from transect.studies.runs import model_of
from transect.texts.sets import DAYS, MONTHS

if TYPE_CHECKING:
    from transect.models.models import Model

#: Labels whose values are words: (words, value → index of its word, appended prompt that asks for the word).
WORDS: dict[str, tuple[list[str], Callable[[float], int], str]] = {
    "date": (MONTHS, lambda y: _month(y), " The month of this birthday is"),
    "month": (MONTHS, lambda y: round(y - 1) % 12, " The month is"),
    "weekday": (DAYS, lambda y: round(y) % 7, " The day of the week is"),
}


def _month(date: float) -> int:
    """Month 0–11 of a day of the year / 365."""
    lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    return int(np.searchsorted(np.cumsum(lengths), (date % 1) * 365 + 1e-6, side="right"))


TEXTS, DRAWS = 32, 3  # held-out texts that are moved; random directions of the same size


def intervene(
    model: "Model",
    store: Store,
    job: MapJob,
    token: str,
    sites: Sequence[str],
    shift: float,
    prompt: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Table:
    """A row for each site and measure: `kl` (nats, moved against unmoved), and `label_shift` where the label
    has words: how much the log-odds of the new label's word over the old one's rise. null: random subspace;
    `covariance`: drawn from the points' covariance. Means and
    intervals over groups of texts, or label values where there are none."""
    model_or_refuse(store, "an intervention")
    check_model(model, store)
    words, word_of, asked = WORDS.get(job.label[0], ([], lambda y: 0, ""))
    prompt = asked if prompt is None else prompt
    extra = model.tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else []
    first = [model.tokenizer(f" {w}", add_special_tokens=False)["input_ids"][0] for w in words]
    y, rows = read_labels(store, job.label), []
    base: dict[str, Any] = {
        "run": store.name,
        "token": token,
        "label": "/".join(job.label),
        "shape": job.shapes[0][0],
    }
    base |= {"control": "random subspace, same size", "shift": float(shift), "prompt": prompt, "draws": DRAWS}
    for done, site in enumerate(sites):
        try:
            move = plan_move(store, job, site, token, shift, texts=TEXTS, draws=DRAWS)
        except TransectError as error:
            rows += [base | {"measure": m, "site": site, "status": str(error)} for m in ("kl", "label_shift")]
            continue
        ids = [[*store.token_ids(i).tolist(), *extra] for i in move.texts]
        before = next_token(model, ids)
        after = next_token(model, ids, (site, move.position, move.along))
        controls = {
            kind: [next_token(model, ids, (site, move.position, d)) for d in getattr(move, kind)]
            for kind in ("random", "covariance")
        }
        old, new = ([word_of(float(v)) for v in y[move.texts] + s] if words else [] for s in (0.0, shift))
        measures: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "kl": lambda q, p=before: (np.exp(p) * (p - q)).sum(1)
        }
        if words and len(set(first)) == len(first):
            measures["label_shift"] = lambda q, p=before, a=old, b=new: (
                _odds(q, first, a, b) - _odds(p, first, a, b)
            )
        size = float(np.mean(np.linalg.norm(move.along, axis=1)))
        norm = float(np.mean(np.linalg.norm(store.take(site, store.select(token)), axis=1)))
        record = base | {
            "site": site,
            "n": len(ids),
            "n_texts": len(ids),
            "size": size,
            "relative_size": size / norm,
        }
        if words:
            record["old_word"] = float(np.mean(np.exp(before[np.arange(len(ids)), np.array(first)[old]])))
            record["new_word"] = float(np.mean(np.exp(after[np.arange(len(ids)), np.array(first)[new]])))
        for name, measure in measures.items():
            null = [measure(q) for q in controls["random"]]
            shaped = [measure(q) for q in controls["covariance"]]
            numbers = _row(measure(after), null, shaped, move.units)
            rows.append(record | {"measure": name, "status": "ok"} | numbers)
        if "label_shift" not in measures:
            rows.append(
                record | {"measure": "label_shift", "status": "the label has no words of one token each"}
            )
        if progress:
            progress(done + 1, len(sites))
    return Table(rows)


def _odds(logp: np.ndarray, first: list[int], old: list[int], new: list[int]) -> np.ndarray:
    """Log-odds of a new word over an old one [texts], from log-probabilities [texts, vocabulary]."""
    n = np.arange(len(logp))
    return logp[n, np.array(first)[new]] - logp[n, np.array(first)[old]]


def _row(
    values: np.ndarray, null: list[np.ndarray], shaped: list[np.ndarray], units: np.ndarray
) -> dict[str, Any]:
    """Means over units (groups, or label values) with t-intervals: of the value, of the controls, of the
    excess. Every number weighs units alike."""
    means, draws = by_unit(values, units), np.array([by_unit(v, units) for v in null])
    row = dict(zip(("value", "low", "high"), mean_interval(means), strict=True))
    levels = draws.mean(axis=1)
    row |= {"null": levels.mean(), "null_low": levels.min(), "null_high": levels.max()}
    beyond = mean_interval(means - draws.mean(axis=0))
    row |= dict(zip(("corrected", "corrected_low", "corrected_high"), beyond, strict=True))
    row |= {"covariance": np.mean([by_unit(v, units).mean() for v in shaped]), "n_units": len(means)}
    return {name: float(number) for name, number in row.items()}


def by_unit(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Means [units] of numbers of texts: every unit weighs alike."""
    member = np.unique(units, return_inverse=True)[1]
    return np.bincount(member, values) / np.bincount(member)


def mean_interval(means: np.ndarray) -> tuple[float, float, float]:
    """A mean and the ends of its t-interval; NaN ends for a single one."""
    from scipy.stats import t

    centre, count = float(means.mean()), len(means)
    half = t.ppf(0.975, count - 1) * means.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan
    return centre, centre - float(half), centre + float(half)


def check_model(model: "Model", store: Store) -> None:
    """Refuse a model that is not the one the store was captured from, or that has no next token."""
    if model.kind != "decoder" or (
        not hasattr(model.model, "lm_head") and model.model.get_output_embeddings() is None
    ):
        raise TransectError(
            f"{model.name}: has no next token ({model.kind}).", "Intervene on a causal language model."
        )
    digest = store.manifest["model"]["fingerprint"].get("weights")
    if digest and digest != model.fingerprint["weights"]:
        raise TransectError(
            f"{model.name}: other weights than {store.path} was captured from.",
            "Open the model of the capture.",
        )


def asked_of(
    study: Study, store: Store, at: str | None, depths: Sequence[float]
) -> tuple[MapJob, str, list[str]]:
    """The job of a manifold study, the token to move at, and the sites of its map at some shares of depth."""
    origin = study.provenance
    kept = {k: origin[k] for k in ("group", "alpha", "scale", "folds", "seed")}
    job = MapJob(
        store=str(store.path), fingerprint=store.fingerprint, tokens=(), label=tuple(origin["label"]),
        shapes=(tuple(origin["shapes"][0]),), n_components=origin["dimension"], permutations=0, **kept,
    )  # fmt: skip
    token = origin["source"] if at is None else at if ":" in at else f"landmark:{at}"
    there = [s for s in study.tables["map"].where(run=store.name).values("site") if s.startswith("resid")]
    return job, token, list(dict.fromkeys(there[round(f * (len(there) - 1))] for f in depths))


def add_intervention(
    study: Study,
    store: Store,
    *,
    at: str | None = None,
    shift: float | None = None,
    prompt: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Study:
    """Add the table, figure and findings of an intervention to a manifold study; by default at its source
    token."""
    model_or_refuse(store, "an intervention")
    job, token, selected = asked_of(study, store, at, np.linspace(0.1, 0.95, 5).tolist())
    parameters = json.loads(job.shapes[0][1])
    step_size = float(
        shift if shift is not None else parameters.get("period", parameters.get("span", 4.0)) / 4
    )
    model = model_of(store)
    step = (lambda done, total: progress("intervention", done, total)) if progress else None
    table = intervene(model, store, job, token, selected, step_size, prompt, step)
    table.provenance = study.provenance
    study.tables["intervention"] = table
    for row in table.where(status="ok"):
        unit = {
            "kl": "KL of the next token",
            "label_shift": "log-odds of the new label's word over the old one's",
        }
        study.findings.append(
            f"{store.name}: moved by {step_size:g} at {row['site']}, {token}: {unit[row['measure']]} "
            f"{row['value']:.3g}"
            f" [{row['low']:.3g}, {row['high']:.3g}], {row['corrected']:.3g} [{row['corrected_low']:.3g}, "
            f"{row['corrected_high']:.3g}] beyond a random subspace of the same size ({row['null']:.3g}); "
            f"directions of the points' covariance {row['covariance']:.3g} (size "
            f"{row['relative_size']:.0%} of the mean norm)."
        )
    title = f"Next token after a move of {step_size:g} along the manifold"
    where = repr(prompt) if prompt else "the default prompt"
    caption = (
        f"Held-out texts moved at {token}; the next token is read after {where}; dashed: moves of "
        "the same size in a random subspace, band: their range; dotted: drawn from the points' covariance."
        f" {describe_run(store)}."
    )
    if len(table.where(status="ok")):
        options = {"run": store.name, "token": token}
        study.figures.append(
            Figure("intervention", "manifold_intervention", "intervention", title, caption, options)
        )
    return study
