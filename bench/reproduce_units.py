"""Three programs that look inside one model: tokens of a text, neurons of a block, a feature at one token.

Each takes what was captured and returns its section of the page; no number here is written down.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

import reproduce_formulas as theirs
import transect as ts
from reproduce_parts import HEAD, LAYER, Made, Section, num, span, told, within_bounds
from transect.inference.accumulators import store_moments
from transect.inference.per_text import within
from transect.models.gradients import token_gradients
from transect.studies.neurons.minibatch import project_batches
from transect.train.data import Stream
from transect.train.perplexity import Protocol, perplexity

if TYPE_CHECKING:
    from transect.store.store import Store

DAYS = ("landmark:born", "landmark:month", "landmark:volleyball", "landmark:birthday-2", "landmark:birthday")


def tokens(made: Made) -> Section:
    """Token Geometry Analyzer: cosines through depth, norms, gradients, perplexity."""
    store, twin = made.problems, made.problems_twin
    raw = {
        site: [_raw(s, site) for s in (store, twin)]
        for site in ("resid.0", "resid.15", "resid.30", "final_norm")
    }
    rows: list[tuple[str, ...]] = []
    for site in list(raw)[:-1]:
        own, random = within([("anisotropy", "mean", {})], [store, twin], family=site)
        rows.append((
            f"mean cosine of the tokens of a text, {site}",
            f"uncentred, position 0 in it: {num(raw[site][0])}",
            f"the mean of all texts taken out: {within_bounds(own)}",
            f"tokens of other texts: {num(own['null'])}; random weights: {num(random['value'])}, by its "
            f"formula {num(raw[site][1])}",
        ))  # fmt: skip
    rows.append(("… at the final norm, for it one more layer", num(raw["final_norm"][0]), "no layer", "–"))
    rows += [_norms(store), _gradients(made), _perplexity(made)]
    follows = (
        f"Its curve rises from {num(raw['resid.0'][0])} to {num(raw['resid.30'][0])}, and most of that is "
        f"a direction that the tokens of all texts share: with the mean taken out, {num(own['value'])} is "
        "left at the last layer. That remainder is above tokens of other texts, so tokens of a text do "
        "grow alike. With the random weights of these thirty blocks they do so far more, with those of "
        "the decoders of [Token geometry](tokens.md) a little (0.02 to between 0.04 and 0.17 over six "
        "blocks): a rise with depth by itself tells nothing of training. The mean norm is mostly that of "
        "the first token, its gradients fall with the length of the prompt, and a perplexity needs its "
        "protocol beside it."
    )
    return Section(
        "Token geometry across architectures (Token Geometry Analyzer)",
        "Cosine similarity between the tokens of a prompt, layer by layer, shows how a network makes "
        "tokens more alike, and architectures differ in it.",
        HEAD,
        rows,
        follows,
        f"{told(store)}; corrected cosines: the first {own['n']} tokens after position 0 of "
        f"{own['n_texts']} texts. One architecture, trained and random; twelve decoders of the "
        "program's own size are trained and compared in Token geometry: all of them learn.",
        "transect tokens smollm2 --texts gsm-test:60 --out runs/tokens\n"
        "docs/figures.sh tokens      # pre and post norm, SwiGLU and GELU, three seeds, on an accelerator",
    )


def _raw(store: "Store", site: str) -> float:
    return float(np.mean([theirs.raw_cosine(store.sample(i, site)) for i in range(len(store))]))


def _norms(store: "Store", site: str = "resid.15") -> tuple[str, ...]:
    kept, dropped = (ts.measures.mean_norm(store.points(site, position0=p)) for p in (True, False))
    first = float(np.median(np.linalg.norm(store.points(site, 0), axis=1)))
    return (
        f"mean norm of a token, {site}",
        f"position 0 in it: {num(kept)}",
        f"without it: {num(dropped)}",
        f"position 0 itself, median: {num(first)}",
    )


def _gradients(made: Made, layer: int = 15) -> tuple[str, ...]:
    """The same three tokens of the same texts, the text cut at 16, 32 and 64 tokens."""
    at, lengths = np.array([4, 8, 12]), (16, 32, 64)
    long = [
        made.problems.token_ids(k)
        for k in range(len(made.problems))
        if made.problems.lengths[k] >= max(lengths)
    ][:6]
    norms: dict[str, list[float]] = {"theirs": [], "ours": []}
    for length in lengths:
        norms["theirs"].append(
            float(np.mean([theirs.mean_loss_gradients(made.model, ids[:length], layer)[at] for ids in long]))
        )
        found = [
            token_gradients(made.model, ids[:length], at, ids[at + 1])[f"resid.{layer}"][0] for ids in long
        ]
        norms["ours"].append(float(np.mean(found)))
    return (
        f"gradient norm of three tokens at resid.{layer}, the text cut at {', '.join(map(str, lengths))} "
        f"tokens ({len(long)} texts)",
        f"of the mean loss: {', '.join(num(v) for v in norms['theirs'])}",
        f"of the token's own loss: {', '.join(num(v) for v in norms['ours'])}",
        "the tokens and what stands before them are the same",
    )


def _perplexity(made: Made, size: int = 1025, block: int = 128) -> tuple[str, ...]:
    """One text stream in windows that overlap or not; the figure halves on two processes that divide it."""
    ids = np.concatenate([made.problems.token_ids(k) for k in range(len(made.problems))])[:size]
    stream = Stream(ids, 0, 0, 0)
    apart, over = (perplexity(made.model.model, stream, Protocol(block, s)) for s in (block, block // 4))
    twin = perplexity(made.twin.model, stream, Protocol(block, block))
    return (
        f"perplexity of {apart.tokens:,} tokens, windows of {block}",
        f"divided by the processes, as published: {num(apart.per_token)} on one, "
        f"{num(apart.per_token / 2)} on two",
        f"side by side {num(apart.per_token)}; every {block // 4} tokens {num(over.per_token)}: the "
        "protocol is part of the number",
        f"random weights: {num(twin.per_token)}",
    )


def neurons(made: Made) -> Section:
    """Transformer Projector: correlation, an order on a line, a map."""
    outputs, inner = "mlp.2.out", "mlp.2.act"
    rows = [
        _correlation(made.problems, inner),
        *_orders(made.problems, outputs),
        _map(made, outputs, _by_batches(made.problems, outputs)),
        _map(made, inner, "none: it hooks block outputs"),
    ]
    follows = (
        "Whole-data correlation is one product per block. Its loss on a line falls because the line "
        "shrinks: the order in which the descent ends is no more correlated than the one it began with, "
        "whichever of three step sizes is taken, and on a line of fixed length sorting by correlation "
        "*raises* the loss. Its pictures of sorted layers are of another model, and did not come about "
        "here. Neurons can be sorted all the same, by other means. Its maps by batches fit nearly as well "
        "as the exact one: what they lack is the control. Shuffled activations give a ball with a stress "
        "of its own, and a picture shows as much as its stress lies below that and below that of random "
        "weights: something for the outputs of this block, next to nothing for its neurons."
    )
    return Section(
        "Neurons laid out by correlation (Transformer Projector)",
        "Placed by the correlations of their activations, neurons sort into visible structure; "
        "correlations over a whole data set are out of reach, so that batches must do.",
        HEAD,
        rows,
        follows,
        f"{told(made.problems)}; position 0 dropped. {outputs} is where the program hooks, {inner} are the "
        "neurons of that block. Its descent: 40 passes of Adam over batches of "
        f"{len(_batches(made.problems, outputs)[0])} tokens or so, our choice.",
        "transect capture smollm2 gsm-test:60 --out runs/neurons --sites mlp.act,mlp.out\n"
        "transect neurons runs/neurons --sites mlp.act --dim 3 --out runs/neurons-study",
    )


def _batches(store: "Store", site: str) -> list[np.ndarray]:
    X = store.points(site, position0=False)
    return np.array_split(X, len(X) // 256)


def _shuffled(store: "Store", site: str) -> np.ndarray:
    """Correlation of the same activations with every column shuffled by itself."""
    flat = store_moments(store, site, position0=False, shuffle=0).correlation
    np.fill_diagonal(flat, 1.0)
    return flat


def _correlation(store: "Store", site: str) -> tuple[str, ...]:
    """One batch against all tokens, and all tokens streamed against all in memory."""
    rho, batches = ts.neurons.correlation(store, site, position0=False), _batches(store, site)
    X, upper = np.concatenate(batches), np.triu_indices(len(rho), 1)
    batch, exact = (
        np.abs(np.corrcoef(Z.astype(np.float64), rowvar=False) - rho)[upper] for Z in (batches[0], X)
    )
    return (
        f"correlation of {len(rho):,} neurons, {site}; mean \\|ρ\\| is "
        f"{num(float(np.abs(rho[upper]).mean()))}",
        f"a batch of {len(batches[0])} tokens: off by {num(float(batch.mean()))} on average, "
        f"{num(float(batch.max()))} at most",
        f"all {len(X):,} tokens in one pass, sums of {rho.nbytes / 2**20:.0f} MiB: off by "
        f"{exact.max():.0e} at most",
        "all tokens in memory, float64",
    )


def _orders(store: "Store", site: str) -> list[tuple[str, ...]]:
    """The loss of orders on a line of fixed length, and the correlation of neighbours that each order has."""

    def beside(order: np.ndarray, of: np.ndarray) -> float:
        return float(of[order[:-1], order[1:]].mean())

    rho, flat = ts.neurons.correlation(store, site, position0=False), _shuffled(store, site)
    rng = np.random.default_rng(0)
    costs = [ts.neurons.order_cost(rng.permutation(len(rho)), rho) for _ in range(5)]
    spectral, leaf = (ts.neurons.seriate(rho, method) for method in ("spectral", "leaf"))
    noise = [beside(ts.neurons.seriate(flat, method), flat) for method in ("spectral", "leaf")]
    steps = [theirs.sort_by_descent(_batches(store, site), lr=lr) for lr in (0.02, 0.1, 1.0)]
    ends = [beside(np.argsort(s.positions), rho) for s in steps]
    shrunk = [float(np.ptp(s.positions)) / len(rho) ** 0.5 for s in steps]
    return [
        (
            f"loss Σ D·(1 − ρ)/2 of an order on a line of fixed length, {site}",
            f"sorted by correlation: {num(ts.neurons.order_cost(spectral, rho))} (spectral), "
            f"{num(ts.neurons.order_cost(leaf, rho))} (leaves)",
            "no loss: spectral seriation, leaves of average linkage",
            f"random orders: {span(costs)}",
        ),
        (
            f"{len(rho)} of them sorted: mean ρ of neighbours",
            f"after its descent: {', '.join(num(v) for v in ends)} (steps 0.02, 0.1, 1); the line shrinks to "
            f"{', '.join(num(v) for v in shrunk)} of its length",
            f"spectral: {num(beside(spectral, rho))}; leaves: {num(beside(leaf, rho))}",
            f"as they come: {num(beside(np.arange(len(rho)), rho))}; columns shuffled, then sorted: "
            f"{num(noise[0])}, {num(noise[1])}",
        ),
    ]


def _by_batches(store: "Store", site: str) -> str:
    found = project_batches(_batches(store, site), 3, epochs=10)
    return f"by batches; its fit, which it does not print: stress {num(found.stress)}"


def _map(made: Made, site: str, published: str) -> tuple[str, ...]:
    rho = [ts.neurons.correlation(s, site, position0=False) for s in (made.problems, made.problems_twin)]
    ours = ts.neurons.project(rho[0], 3, control=_shuffled(made.problems, site))
    twin = ts.neurons.project(rho[1], 3, control=rho[1])
    halves = ts.neurons.reproducibility(made.problems, site, 3, position0=False)
    return (
        f"map in 3-D, {site}",
        published,
        f"stress {num(ours.stress)}; maps of two halves of the texts agree to {num(halves)}",
        f"columns shuffled: stress {num(ours.control_stress)}; random weights: {num(twin.stress)}",
    )


def manifold(made: Made) -> Section:
    """The SMDS notebook: a circle of dates at five tokens of one layer."""
    store, site = made.birthdays, f"resid.{LAYER}"
    y = store.label("date").astype(float)
    shuffled = np.random.default_rng(0).permutation(y)
    given: dict[str, Any] = {"label": "date", "tokens": DAYS, "source": "month", "workers": 1}
    study = ts.studies.manifold(store, controls=[made.birthdays_twin], **given)
    ours = {r["token"]: r for r in study.tables["map"] if r["kind"] == "free"}
    rows, lowest = [], []
    for token in DAYS:
        X, R, cell = store.points(site, token), made.birthdays_twin.points(site, token), ours[token]
        own = [theirs.circle_score(X, y), theirs.circle_score(X, y, theirs.date_folds)]
        own += [theirs.circle_score(X, shuffled), theirs.circle_score(R, y)]
        lowest += [own[2], *(own[:1] if token == DAYS[0] else [])]
        values = [within_bounds(cell, "corrected"), num(cell["random"]), within_bounds(cell, "added")]
        rows.append((f"`{token}`", *map(num, own), *values, num(cell["p_max"]), f"{cell['share']:.2%}"))
    near, far = ours["landmark:birthday"], ours["landmark:volleyball"]
    after = max(ours[t]["share"] for t in DAYS[2:])
    wrong, right = _months()
    zero = [min(lowest), max(lowest)]
    moved = float(np.abs((y - y.min()) / np.ptp(y) - y).max())
    all_days = np.array(ts.open_texts("birthdays:1000", seed=0).labels["date"], float)
    follows = (
        f"A perfect circle of twelve months scores {num(wrong)} by its labels, which are scaled so that "
        f"December falls on January, and {num(right)} with the period given; but dates in [0, 1) move by "
        f"no more than {num(moved)}, and that fault does next to nothing here. The leak does little: "
        f"{theirs.leaked(y):.0%} of its held-out sentences share their date with a training sentence "
        f"({theirs.leaked(all_days):.0%} in its 1000 sentences), and the score with folds by date is only "
        "a little lower. What its score lacks is a zero: shuffled labels, and *born*, which stands before "
        f"the date and is six points in both models, one for each name, score {span(zero)}. What its claim "
        "lacks is a control: the date is read from random weights at every token from the month on, and "
        "in the trained model at *volleyball*, which needs no date, nearly as well as at *birthday*. Part "
        f"of the claim stands: training added {within_bounds(near, 'added')} at *birthday* and "
        f"{within_bounds(far, 'added')} at *volleyball*. After the month the subspace holds {after:.2%} of "
        "the variance or less."
    )
    return Section(
        "Where a feature manifold lives (SMDS notebook)",
        "If a model copies a date to a token where it is needed, the circle of dates appears there: a high "
        "score marks the place.",
        ("token", "its score", "… folds by date", "… labels shuffled", "… random weights", "corrected",
         "random weights, corrected",
         "added by training", "p, max-T", "share of variance"),
        rows,
        follows,
        f"{told(store)}; {site} (0.6 of the depth, as in the notebook). `birthday-2` is *on* in *party on "
        "her birthday*. Its score: ridge 1, the library's default. Corrected: 0 is the null, 1 a perfect "
        "circle; folds by date, 3 × 3, 100 permutations of dates.",
        "transect capture smollm2 birthdays:400 --sites resid --out runs/smol --name smol\n"
        "transect capture random:smollm2 birthdays:400 --sites resid --out runs/rand --name rand\n"
        "transect manifold runs/smol --label date --shape circle --control runs/rand --out runs/date",
    )  # fmt: skip


def _months() -> tuple[float, float]:
    """Score of a perfect circle of the months 1 to 12: with labels scaled min–max, and with their period."""
    months = np.arange(1.0, 13.0)
    ring = np.column_stack([np.cos(np.pi * months / 6), np.sin(np.pi * months / 6)])
    wrong = theirs.score_circle(theirs.fit_circle(ring, months, alpha=0), ring, months)
    return wrong, ts.SupervisedMDS("circle", period=12, alpha=0).fit(ring, months).score(ring, months)
