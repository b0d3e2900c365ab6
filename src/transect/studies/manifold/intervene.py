"""Intervention: move points along a fitted manifold inside the model, and see whether the next token follows.

A map says where a feature can be read; this says where it is used. At one token of one site each held-out
text is moved from its own label to another one (a date by 90 days), and the model's next-token distribution
is compared with the unmoved one, beside moves of equal size in random subspaces.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transect.errors import TransectError
from transect.models import sites as site_names
from transect.numeric.smds import SupervisedMDS
from transect.random import rng
from transect.results.study import Figure, Study, describe_run
from transect.results.table import Table
from transect.store.store import Store
from transect.studies.manifold.plan import MapJob, Plan, read_labels
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


@dataclass(frozen=True)
class Move:
    """Texts of one site and what is added to each at its position: `along` [n, d], and controls of the same
    size."""

    site: str
    texts: np.ndarray
    position: np.ndarray
    along: np.ndarray
    random: np.ndarray  # [draws, n, d]
    covariance: np.ndarray  # [draws, n, d]


def plan_move(
    store: Store, job: MapJob, site: str, token: str, shift: float | int, *, texts: int = 32, draws: int = 3
) -> Move:
    """Fit on the training texts of the first fold; move held-out ones from their label to label + shift.

    A move is the change of the points that goes with the change of the fitted coordinates, by regression over
    the training texts (Haufe et al. 2014), not the decoder's own direction. Controls have each text's own
    size: `random`, a subspace of any directions; `covariance`, one drawn from the points' own covariance.
    """
    import json

    plan = Plan(job, y := read_labels(store, job.label))
    if y.dtype.kind not in "fiu" or y.ndim > 1:
        raise TransectError(
            f"label {'/'.join(job.label)}: cannot be shifted by {shift}.", "Choose one number."
        )
    fold, (name, given) = plan.folds[0], job.shapes[0]
    chosen = store.select(token)
    X = store.take(site, chosen).astype(np.float64)
    mean = X[fold.train].mean(axis=0)
    size = np.sqrt(((X[fold.train] - mean) ** 2).mean())
    if not size > 0:
        raise TransectError(
            f"{site}, {token}: the points are the same in all texts.", "Move at a later site or token."
        )
    T = (X[fold.train] - mean) / size
    made = SupervisedMDS(name, 1.0, job.n_components, job.alpha, parameters=json.loads(given)).fit(
        T, y[fold.train]
    )
    Z = made.transform(T)
    pattern = np.linalg.lstsq(Z, T, rcond=None)[0]
    held = fold.test[rng(job.seed, "moved texts").permutation(len(fold.test))[:texts]]
    held.sort()
    steps = made.place(y[held] + shift) - made.place(y[held])
    along = steps @ pattern * size
    lengths = np.linalg.norm(along, axis=1, keepdims=True)
    directions = rng(job.seed, "random moves")
    controls: list[list[np.ndarray]] = [[], []]
    for _ in range(draws):
        for kind, basis in enumerate((np.eye(T.shape[1]), T)):
            D = steps @ directions.standard_normal((steps.shape[1], len(basis))) @ basis
            controls[kind].append(D * lengths / np.linalg.norm(D, axis=1, keepdims=True))
    return Move(site, held, chosen.position[held], along, *(np.array(c) for c in controls))


@contextlib.contextmanager
def moved(model: "Model", site: str, position: Any, delta: Any) -> Iterator[None]:
    """While open, every pass adds `delta` [texts, d] at `position` [texts] of a site."""
    import torch

    tap = site_names.discover(model.model)[site]

    def shifted(value: Any) -> Any:
        if isinstance(value, tuple):
            return (shifted(value[0]), *value[1:])
        value = value.clone()
        value[torch.arange(len(position)), position] += delta.to(value)
        return value

    if tap.reads == "input":

        def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
            if args:
                return (shifted(args[0]), *args[1:]), kwargs
            return args, kwargs | {"hidden_states": shifted(kwargs["hidden_states"])}

        handle = tap.module.register_forward_pre_hook(hook, with_kwargs=True)
    else:
        handle = tap.module.register_forward_hook(lambda _m, _args, result: shifted(result))
    try:
        yield
    finally:
        handle.remove()


def next_token(
    model: "Model", ids: Sequence[Sequence[int]], move: tuple[str, Any, Any] | None = None
) -> np.ndarray:
    """Log-probabilities of the token after each text, float32 [texts, vocabulary]; `move`: site, position,
    delta."""
    import torch

    out, device = [], model.device
    for begin in range(0, len(ids), 16):
        part = [list(row) for row in ids[begin : begin + 16]]
        longest = max(map(len, part))
        tokens = torch.tensor([row + [0] * (longest - len(row)) for row in part], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in part], device=device)
        context: Any = contextlib.nullcontext()
        if move is not None:
            at = torch.as_tensor(np.asarray(move[1])[begin : begin + 16], device=device)
            delta = torch.as_tensor(np.asarray(move[2], np.float32)[begin : begin + 16], device=device)
            context = moved(model, move[0], at, delta)
        with torch.inference_mode(), context:
            logits = model.model(input_ids=tokens, attention_mask=mask).logits
        last = torch.tensor([len(row) - 1 for row in part], device=device)
        out.append(logits[torch.arange(len(part), device=device), last].float().log_softmax(-1).cpu().numpy())
    return np.concatenate(out)


def intervene(
    model: "Model",
    store: Store,
    job: MapJob,
    *,
    token: str,
    sites: Sequence[str],
    shift: float | int,
    prompt: str | None = None,
    texts: int = 32,
    draws: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> Table:
    """A row for each site and measure: `kl` (nats, moved against unmoved), and `label_shift` where the label
    has words: how much the log-odds of the new label's word over the old one's rise. null: random subspace;
    `covariance`: drawn from the points' covariance. Intervals over texts (means of label values first)."""
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
    base |= {"control": "random subspace, same size", "shift": float(shift), "prompt": prompt, "draws": draws}
    for done, site in enumerate(sites):
        try:
            move = plan_move(store, job, site, token, shift, texts=texts, draws=draws)
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
        told = base | {
            "site": site,
            "n": len(ids),
            "n_texts": len(ids),
            "size": size,
            "relative_size": size / norm,
        }
        if words:
            told["old_word"] = float(np.mean(np.exp(before[np.arange(len(ids)), np.array(first)[old]])))
            told["new_word"] = float(np.mean(np.exp(after[np.arange(len(ids)), np.array(first)[new]])))
        for name, measure in measures.items():
            null = [measure(q) for q in controls["random"]]
            rows.append(told | {"measure": name, "status": "ok"} | _row(measure(after), null, y[move.texts]))
            rows[-1]["covariance"] = float(np.mean([measure(q).mean() for q in controls["covariance"]]))
        if "label_shift" not in measures:
            rows.append(
                told | {"measure": "label_shift", "status": "the label has no words of one token each"}
            )
        if progress:
            progress(done + 1, len(sites))
    return Table(rows)


def _odds(logp: np.ndarray, first: list[int], old: list[int], new: list[int]) -> np.ndarray:
    n = np.arange(len(logp))
    return logp[n, np.array(first)[new]] - logp[n, np.array(first)[old]]


def _row(values: np.ndarray, null: list[np.ndarray], labels: np.ndarray) -> dict[str, Any]:
    """Mean with its t-interval over label values, the control's mean and range over draws, and the excess."""
    from scipy.stats import t

    _, member = np.unique(labels, return_inverse=True)
    means = np.bincount(member, values) / np.bincount(member)
    half = (
        float(t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)))
        if len(means) > 1
        else np.nan
    )
    draws = [float(v.mean()) for v in null]
    row = {
        "value": float(means.mean()),
        "low": float(means.mean()) - half,
        "high": float(means.mean()) + half,
    }
    row |= {"null": float(np.mean(draws)), "null_low": min(draws), "null_high": max(draws)}
    return row | {"corrected": row["value"] - row["null"]}


def check_model(model: "Model", store: Store) -> None:
    """Refuse a model that is not the one the store was captured from, or that has no next token."""
    if model.kind != "decoder" or (
        not hasattr(model.model, "lm_head") and model.model.get_output_embeddings() is None
    ):
        raise TransectError(
            f"{model.name}: has no next token ({model.kind}).", "Intervene on a causal language model."
        )
    told = store.manifest["model"]["fingerprint"].get("weights")
    if told and told != model.fingerprint["weights"]:
        raise TransectError(
            f"{model.name}: other weights than {store.path} was captured from.",
            "Open the model of the capture.",
        )


def add_intervention(
    study: Study,
    store: Store,
    *,
    model: "Model | None" = None,
    at: str | None = None,
    shift: float | int | None = None,
    prompt: str | None = None,
    sites: Sequence[str] | None = None,
    texts: int = 32,
    draws: int = 3,
    progress: Callable[[str, int, int], None] | None = None,
) -> Study:
    """Add the table, figure and findings of an intervention to a manifold study; by default at its source
    token."""
    import json

    told = study.provenance
    shapes = tuple((name, given) for name, given in told["shapes"])
    job = MapJob(
        str(store.path), store.fingerprint, (), tuple(told["label"]), None, shapes[:1], permutations=0
    )
    job = MapJob(
        **{**vars(job), "alpha": told["alpha"], "n_components": told["dimension"], "seed": told["seed"]}
    )
    given = json.loads(shapes[0][1])
    step_size = float(shift if shift is not None else given.get("period", given.get("span", 4.0)) / 4)
    token = told["source"] if at is None else at if ":" in at else f"landmark:{at}"
    if model is None:
        from transect.models.models import open_model

        model = open_model(store.manifest["model"]["spec"], seed=told["seed"])
    there = [s for s in study.tables["map"].where(run=store.name).values("site") if s.startswith("resid")]
    chosen = list(
        sites or dict.fromkeys(there[round(f * (len(there) - 1))] for f in np.linspace(0.1, 0.95, 5))
    )
    step = (lambda done, total: progress("intervention", done, total)) if progress else None
    table = intervene(
        model,
        store,
        job,
        token=token,
        sites=chosen,
        shift=step_size,
        prompt=prompt,
        texts=texts,
        draws=draws,
        progress=step,
    )
    table.provenance = told
    study.tables["intervention"] = table
    for row in table.where(status="ok"):
        unit = {
            "kl": "KL of the next token",
            "label_shift": "log-odds of the new label's word over the old one's",
        }
        study.findings.append(
            f"{store.name}: moved by {step_size:g} at {row['site']}, {token}: {unit[row['measure']]} "
            f"{row['value']:.3g}"
            f" [{row['low']:.3g}, {row['high']:.3g}]; random subspace of the same size {row['null']:.3g}, "
            "directions of"
            f" the points' covariance {row['covariance']:.3g} (size {row['relative_size']:.0%} of the "
            "mean norm)."
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
