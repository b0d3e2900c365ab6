"""Two programs that compare clouds: drift through depth by transport, and fine-tuning drift by CKA.

Each takes what was captured and returns its section of the page; no number here is written down.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import reproduce_formulas as theirs
import transect as ts
from reproduce_parts import HEAD, LAYER, Made, Section, num, span, told, within_bounds
from transect.inference.design import Design
from transect.inference.draws import draw
from transect.results.table import Table
from transect.studies.drift.changes import changes
from transect.studies.drift.published import WINDOW, published

if TYPE_CHECKING:
    from transect.models.models import Model
    from transect.store.store import Store

N, GROUPS = 198, 6
GIVEN: dict[str, Any] = {"tokens": "all", "position0": False, "n": N, "groups": GROUPS, "seed": 0}
SWEEP: dict[str, Any] = GIVEN | {"sites": "resid", "massive": 10.0, "workers": 1}


def drift(made: Made) -> Section:
    """OTExplorer: transport between layers, phase transitions, entropy."""
    table: dict[str, Any] = {"normalise": "unit", "design": "disjoint", **SWEEP}
    ours = ts.sweep("sinkhorn", made.problems, halves=10, **table)
    twin = ts.sweep("sinkhorn", made.problems_twin, **table)
    as_published = published(made.problems, ours, Design(**GIVEN), 2.0)
    own, floor = (float(as_published.column(name).mean()) for name in ("value", "null"))
    top = max(ours, key=lambda r: r["corrected"])
    rows = [
        (
            f"distance between adjacent layers, {len(ours)} pairs",
            f"the same tokens: mean {num(own)}; two halves of one layer: mean {num(floor)}",
            "excess of the debiased divergence over split halves: median "
            f"{num(float(np.median(ours.column('corrected'))))}, above 0 in {_above(ours)}; largest "
            f"{within_bounds(top, 'corrected')} at {top['site']} → {top['site2']}",
            f"random weights: median {num(float(np.median(twin.column('corrected'))))}, above 0 in "
            f"{_above(twin)}",
        ),
        _bases(made.problems, table),
        _changes(as_published, ours, twin),
        _entropies(made, as_published),
    ]
    follows = (
        f"Its distance of two neighbouring layers ({num(own)}) is about what it gives for two samples of "
        f"one layer ({num(floor)}): the curve shows regularisation and sampling, and neither drift nor its "
        "absence can be read from it. Its rule for transitions cannot fire on any curve. By the corrected "
        f"number layers do drift, most of all at {top['site']} → {top['site2']}; with random weights they "
        "do so too: a jump says something about training where random weights have none there. The "
        "entropy of norms is close to log n at all layers and dips where single tokens are "
        "massive; the spectrum's moves with depth."
    )
    return Section(
        "Depth drift by optimal transport (OTExplorer)",
        "Transport distances between layers show how a representation drifts, and outliers of their curve "
        "are phase transitions.",
        HEAD,
        rows,
        follows,
        f"{told(made.problems)}; {N} tokens a cloud, points at norm 1, position 0 dropped, {GROUPS} groups "
        "of texts a half. Corrected: also without tokens above ten median norms; its own distance is of "
        "the same tokens, its floor of different ones.",
        "transect capture smollm2 gsm-test:60 --out runs/smol\n"
        "transect drift runs/smol --random-weights --as-published --out runs/drift\n"
        "transect drift --preset otexplorer --as-published --out runs/otexplorer   # gpt2-large, 2000 "
        "problems: needs a hub",
    )


def _above(table: Table) -> str:
    """How many rows have an interval of the excess above 0."""
    return f"{int((table.column('corrected_low') > 0).sum())} of {len(table)}"


def _changes(as_published: Table, ours: Table, twin: Table) -> tuple[str, ...]:
    """The rolling z of the published curve, our jumps, and those of random weights."""
    z = np.abs(as_published.column("rolling_z"))
    own, other = (
        changes(table, Table(), "sinkhorn", []).where(kind="jump", status="ok") for table in (ours, twin)
    )
    shown = ", ".join(f"{r['site2']} (in {r['support']:.0%} of half-samples)" for r in own)
    in_twin = ", ".join(r["site2"] for r in other)
    return (
        f"change layers: \\|z\\| > 2 in a window of {WINDOW}",
        f"largest \\|z\\| {num(z.max())}, none can pass {num((WINDOW - 1) ** 0.5)}; fires at "
        f"{int((z > 2 + 1e-9).sum())} layers",
        f"jumps: {shown or 'none'}",
        f"random weights: {in_twin or 'none'}",
    )


def _entropies(made: Made, as_published: Table) -> tuple[str, ...]:
    """Entropy of norms over log n, with massive tokens and without, and the spectrum's."""
    norms = as_published.column("norm_entropy") / as_published.column("log_n")
    calm = ts.sweep("norm_entropy", made.problems, permutations=0, **SWEEP)
    share = calm.column("value") / np.log(calm.column("n").astype(float))
    spectral, flat = (
        ts.sweep("spectral_entropy", s, normalise="unit", permutations=9, **SWEEP)
        for s in (made.problems, made.problems_twin)
    )
    first, *_, last = spectral
    return (
        "entropy along the depth",
        f"of token norms, over log n: {span(norms)}; without tokens above ten median norms: {span(share)}",
        f"of the spectrum, nats: {span(spectral.column('value'))}; resid.0 {within_bounds(first)}, "
        f"{last['site']} {within_bounds(last)}",
        f"columns shuffled: {span(spectral.column('null'))}; random weights: {span(flat.column('value'))}",
    )


def _bases(store: "Store", table: dict[str, Any]) -> tuple[str, ...]:
    """Exact transport of the same tokens at adjacent layers, each layer on a basis of its own or both on
    one.
    """
    chosen = store.select("all", position0=False)
    drawn = draw(chosen, n=N, groups=GROUPS, seed=0, halves=True)
    names = [s for s in store.sites if s.startswith("resid.")]
    a, b = (
        [theirs.own_basis(store.take(s, chosen.subset(rows))) for s in names]
        for rows in (drawn.rows[drawn.members(h)].ravel() for h in "ab")
    )
    own = [theirs.emd(a[k], a[k + 1]) for k in range(len(a) - 1)]
    paired = table | {"design": "paired"}
    one, whole = (ts.sweep("wasserstein", store, **(paired | {"pca": k})) for k in (50, None))
    apart = ts.sweep("wasserstein", store, **(table | {"design": "disjoint", "pca": 50}))
    return (
        "exact transport of the same tokens at adjacent layers, 50 axes",
        f"a basis for each layer: mean {num(float(np.mean(own)))}",
        f"one basis for both: mean {num(one.column('value').mean())}; all dimensions: "
        f"{num(whole.column('value').mean())}",
        "halves of one layer: a basis each "
        f"{num(float(np.mean([theirs.emd(*p) for p in zip(a, b, strict=True)])))}, one basis "
        f"{num(apart.column('null').mean())}",
    )


def compare(made: Made) -> Section:
    """The fine-tuning program: its CKA, the floor of biased CKA, means over padding."""
    store, twin, site = made.problems, made.problems_twin, f"resid.{LAYER}"
    names = [s for s in store.sites if s.startswith("resid.")]
    chosen = store.select("all", position0=False)
    rows = draw(chosen, n=N, groups=GROUPS, seed=0).rows.ravel()
    clouds = [store.take(s, chosen.subset(rows)) for s in names]
    selves = np.array([theirs.overlap(X, X) for X in clouds])
    ratios = np.array([ts.measures.participation_ratio(X) for X in clouds])
    most = int(selves.argmin())
    one = next(
        iter(ts.sweep("cka", [store, twin], sites=site, pairs="same", workers=1, massive=10.0, **GIVEN))
    )
    X, Y = store.take(site, chosen.subset(rows)), twin.take(site, chosen.subset(rows))
    made_rows = [
        (
            "a model with itself, all layers: 1 is right",
            f"{span(selves)}: a “drift” of up to {num(1 - selves.min())} ({names[most]}) where nothing "
            "changed",
            f"unbiased CKA: {span([ts.measures.cka(Z, Z) for Z in clouds])}",
            f"1 / participation ratio: {span(1 / ratios)}; differs from its value by "
            f"{np.abs(selves - 1 / ratios).max():.0e} at most",
        ),
        (
            f"trained against random weights, the same tokens, {site}",
            f"{num(theirs.overlap(X, Y))}, where the model with itself has {num(theirs.overlap(X, X))}",
            f"unbiased CKA: {within_bounds(one)}",
            f"pairing shuffled: {num(one['null'])}",
        ),
        _unrelated(),
        _few(store, twin, site),
        _padded(made, site),
    ]
    follows = (
        "Its value depends on how many dimensions a cloud fills before anything has changed: layers, "
        "models and tasks are ranked by their spectrum, and a difference between arms is a difference of "
        "spectra as well. Biased CKA of as many texts as dimensions, or fewer, finds likeness anywhere. "
        "Padding is no small error here, because by this depth padding tokens are sinks: a mean that "
        "counts them tells how long the text is, and two depths look the same. No arm was trained for this "
        "page; what LoRA and full fine-tuning do to the corrected numbers is measured in [What fine-tuning "
        "changes](compare.md), on three seeds."
    )
    return Section(
        "Fine-tuning drift, LoRA against full (Phase 3)",
        "CKA of a fine-tuned model with its base says which layers drift, and LoRA preserves "
        "representations better than full fine-tuning.",
        HEAD,
        made_rows,
        follows,
        f"{told(store)}; {N} tokens, position 0 dropped. Padding: its first 32 texts, padded to the longest.",
        "transect finetune smollm2 --task reviews --method lora --out runs/lora-0      # and --method full\n"
        "transect capture smollm2+runs/lora-0 reviews:100 --name lora-0 --out stores/lora-0   # and base, "
        "full, noise, random\n"
        "transect compare stores/base stores/lora-0 stores/full-0 --noise stores/noise --random "
        "stores/random --out runs/compare",
    )


def _unrelated(n: int = 277, d: int = 2048, draws: int = 5) -> tuple[str, ...]:
    """Two clouds that have nothing to do with each other: 277 texts (RTE's validation part) in 2048
    dimensions.
    """
    rng = np.random.default_rng(0)
    pairs = [rng.standard_normal((2, n, d)) for _ in range(draws)]
    biased, fair = ([ts.measures.cka(*p, unbiased=how) for p in pairs] for how in (False, True))
    return (
        f"two unrelated Gaussian clouds, n = {n}, d = {d:,} ({draws} draws): 0 is right",
        f"biased CKA: {span(biased)}",
        f"unbiased CKA: {span(fair)}",
        f"d / (n + d) = {num(d / (n + d))}",
    )


def _few(store: "Store", twin: "Store", site: str) -> tuple[str, ...]:
    """One mean for each text, trained against random weights."""
    X, Y = (s.points(site, "mean", position0=False) for s in (store, twin))
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(X)) for _ in range(99)]
    null = {how: [ts.measures.cka(X, Y[o], unbiased=how) for o in orders] for how in (True, False)}
    return (
        f"trained against random weights, a mean for each of {len(X)} texts, {site}",
        f"biased CKA: {num(ts.measures.cka(X, Y, unbiased=False))}",
        f"unbiased CKA: {num(ts.measures.cka(X, Y))}",
        f"pairing shuffled, 95 %: biased {span(np.quantile(null[False], [0.025, 0.975]))}, "
        f"unbiased {span(np.quantile(null[True], [0.025, 0.975]))}",
    )


def _padded(made: Made, site: str, count: int = 32, deep: int = 28) -> tuple[str, ...]:
    """Means of texts with the padding counted and without: how alike two depths are, and what the mean
    tells of the length.
    """
    states, mask = _states(made.model, [made.problems.token_ids(k) for k in range(count)], (LAYER, deep))
    real = mask.copy()
    real[:, 0] = 0  # position 0, the sink
    counted = [theirs.padded_means(Z) for Z in states]
    right = [theirs.masked_means(Z, real) for Z in states]
    norms = np.linalg.norm(states[0], axis=2)
    length = mask.sum(axis=1)

    def along(X: np.ndarray) -> float:
        """|r| of the longest axis of the means with the number of tokens."""
        Z = X - X.mean(axis=0)
        return float(abs(np.corrcoef(Z @ np.linalg.svd(Z, full_matrices=False)[2][0], length)[0, 1]))

    return (
        f"a mean for each of {count} texts, {site}; {1 - mask.mean():.0%} of the positions are padding",
        f"padding counted: longest axis against the length of the text \\|r\\| = {num(along(counted[0]))}; "
        f"unbiased CKA with resid.{deep} {num(ts.measures.cka(*counted))}",
        f"real tokens after position 0: \\|r\\| = {num(along(right[0]))}; unbiased CKA with resid.{deep} "
        f"{num(ts.measures.cka(*right))}",
        f"median norm of a padding token {num(float(np.median(norms[mask == 0])))}, of a real one "
        f"{num(float(np.median(norms[real == 1])))}",
    )


def _states(
    model: "Model", texts: Sequence[np.ndarray], layers: Sequence[int]
) -> tuple[list[np.ndarray], np.ndarray]:
    """States after each of the blocks `layers` of texts padded on the right, [texts, longest, d], and the
    mask of real tokens.
    """
    import torch

    longest = max(map(len, texts))
    ids, mask = np.zeros((len(texts), longest), np.int64), np.zeros((len(texts), longest), np.int64)
    for row, own in enumerate(texts):
        ids[row, : len(own)], mask[row, : len(own)] = own, 1
    states: list[list[np.ndarray]] = [[] for _ in layers]
    with torch.inference_mode():
        for k in range(0, len(ids), 8):
            part = {
                "input_ids": torch.from_numpy(ids[k : k + 8]),
                "attention_mask": torch.from_numpy(mask[k : k + 8]),
            }
            out = model.base(**part, output_hidden_states=True, use_cache=False)
            for kept, layer in zip(states, layers, strict=True):
                kept.append(out.hidden_states[layer].numpy())
    return [np.concatenate(kept) for kept in states], mask
