"""What a study of pruning says: findings, warnings, methods, its figure."""

from typing import Any

from transect import __version__
from transect.models.models import Model
from transect.results.study import Figure, Study
from transect.results.table import Table
from transect.texts.texts import Texts

#: Below so many tokens a kept neuron, least squares follows the calibration texts.
ENOUGH = 4
WAYS = {
    "redundancy": "redundancy (the less active neuron of the most correlated pair goes, again and again)",
    "clusters": "clusters (neurons close on their 3-D map are merged, the most active one stays)",
    "activation": "activation (smallest root mean square activation × norm of its output)",
    "magnitude": "magnitude (smallest norm of its weights)",
    "random": "random",
}


def describe(study: Study, model: Model, texts: Texts, options: Any) -> None:
    """Fill in findings, warnings, methods, provenance and the figure from the table."""
    table = study.tables["pruning"]
    rows = list(table)
    study.findings = [
        f"{r['method']}, {r['fraction']:.0%} removed: perplexity {r['value']:.1f} [{r['low']:.1f}, "
        f"{r['high']:.1f}],"
        f" {r['ratio']:.2f} × [{r['ratio_low']:.2f}, {r['ratio_high']:.2f}] that of the whole model "
        f"({r['null']:.1f})."
        for r in rows
    ]
    once = "; random pruning is drawn once for each fold" if "random" in table.values("method") else ""
    study.warnings = [f"Intervals resample texts{once}.", *_short_calibration(table)]
    ways = "; ".join(WAYS[str(m)] for m in table.values("method"))
    share = (
        "each block by the same share, made smaller"
        if options.scope == "layer"
        else ("all blocks together, weights set to zero")
    )
    fold = (
        "The removed neurons are folded into the down-projection by least squares on the kept ones, ridge "
        "1e-6, or neurons ÷ tokens below 4 tokens a neuron."
        if options.compensation
        else "Removed neurons are not compensated."
    )
    study.methods = [
        f"Neurons of {len(texts)} texts in {options.folds} folds: each fold is judged by a model whose "
        f"neurons were chosen on the others. Ways: {ways}. Scope: {share}. {fold}",
        "The ratio is that of the pruned model's perplexity to the whole model's on the same tokens; "
        "intervals are 95 % jackknife intervals over groups of texts, on the log scale.",
    ]
    study.provenance = {
        "transect": __version__,
        "model": {"name": model.name, "spec": model.spec, "fingerprint": model.fingerprint},
        "texts": {"spec": texts.spec, "count": len(texts)},
        "options": {k: v for k, v in options.items().items() if k not in ("out", "progress", "engine")},
    }
    table.provenance = study.provenance
    study.figures = [
        Figure(
            "pruning",
            "pruning",
            "pruning",
            "Perplexity of the pruned model against the whole one",
            f"{model.name} on {texts.spec or texts.name}: {len(texts)} texts, {rows[0]['n']:,} tokens, each "
            f"judged by a model calibrated on the other {'half' if options.folds == 2 else 'folds'}; "
            f"{'with' if options.compensation else 'without'} compensation, scope {options.scope}. Ratio of "
            f"perplexities on the same tokens, bars: 95 % by text; 1: not pruned; seed {options.seed}.",
        )
    ]


def _short_calibration(table: Table) -> list[str]:
    """A warning where the calibration had too few tokens for what was kept."""
    short = [
        r
        for r in table
        if r["calibration_tokens"] is not None and r["calibration_tokens"] < ENOUGH * r["kept"]
    ]
    if not short:
        return []
    kept, tokens = max(r["kept"] for r in short), short[0]["calibration_tokens"]
    return [
        f"Few calibration tokens: {tokens:,} for up to {kept:,} kept neurons a block, {ENOUGH} a neuron are "
        f"asked for. What is read from them is rough, correlations most; give texts of {ENOUGH * kept:,} "
        "tokens a fold or more."
    ]
