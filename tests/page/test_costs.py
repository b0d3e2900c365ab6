"""What the app says that a study will cost: within a factor of 2 of what it cost, and as the form asks."""

from pathlib import Path

import pytest

from transect.page.estimates import study_cost
from transect.page.study_costs import COST, START, Size

TINY, SMOLLM2 = Size(3, 32, 482, 24, {}), Size(30, 576, 469, 8, {})


@pytest.mark.parametrize(
    ("study", "size", "spent"),
    [
        ("probe", TINY, 6.1),
        ("probe", SMOLLM2, 22.3),
        ("lens", TINY, 15.5),
        ("lens", SMOLLM2, 126.7),
        ("depth", TINY, 13.4),
        ("depth", SMOLLM2._replace(values={"longest": "16"}), 75.1),
        ("adapters", TINY, 14.5),
        ("adapters", SMOLLM2, 31.1),
        ("pruning", TINY, 12.3),
        ("pruning", SMOLLM2, 225.1),
        ("tokens", TINY, 36.3),
        ("tokens", Size(30, 576, 3500, 60, {"n": "60"}), 374.2),
    ],
)
def test_a_plan_is_within_a_factor_of_two_of_a_run(study: str, size: Size, spent: float) -> None:
    """CPU seconds of whole commands by bench/costs.py, one thread."""
    predicted = START[study] + COST[study](size)
    assert spent / 2 < predicted < 2 * spent


@pytest.mark.parametrize("study", COST)
def test_cost_grows_with_model_and_tokens(study: str) -> None:
    assert 0 <= COST[study](TINY) < COST[study](SMOLLM2)
    assert COST[study](SMOLLM2) < COST[study](SMOLLM2._replace(blocks=60))
    assert COST[study](SMOLLM2) <= COST[study](SMOLLM2._replace(tokens=4690, texts=80))


@pytest.mark.parametrize(
    ("study", "values"),
    [
        ("depth", {"edit": "remove"}),
        ("depth", {"judges": "8", "longest": ["16"]}),
        ("lens", {"folds": 1}),
        ("probe", {"label": "month"}),
        ("pruning", {"methods": ["random"], "fractions": "0.1"}),
        ("tokens", {"gradients": "False"}),
        ("tokens", {"random_weights": False}),
        ("evolve", {"n": "20"}),
    ],
)
def test_what_the_form_leaves_out_costs_nothing(study: str, values: dict) -> None:
    usual = Size(30, 576, 20_000, 200, {})
    assert COST[study](usual._replace(values=values)) < COST[study](usual)


def test_sizes_come_from_stores_or_from_the_models_folder(tmp_path: Path) -> None:
    families = {"resid": {"sites": 4, "width": 32}}
    store = {"path": "s", "rows": 482, "texts_held": 24, "families": families, "labels": [], "texts": "days"}
    catalog = {"stores": [store | {"spec": "m"}], "studies": []}
    plan = study_cost("lens", ["s"], catalog, None, {})
    assert plan["seconds"] >= 10
    assert plan["bytes"] > 1e6
    assert "482 tokens" in plan["why"]
    assert study_cost("pruning", ["m"], catalog, None, {"texts": "days"})["seconds"] >= 10
    unknown = study_cost("pruning", ["elsewhere"], catalog, None, {"texts": "days"})
    assert unknown["seconds"] is None
    for step in (0, 8):
        (tmp_path / f"checkpoint-{step}").mkdir()
        text = '{"num_hidden_layers": 3, "hidden_size": 32}'
        (tmp_path / f"checkpoint-{step}" / "config.json").write_text(text)
    two = study_cost("evolve", [str(tmp_path)], catalog, None, {"texts": "days"})
    assert two["seconds"] >= 10
    assert "964 tokens" in two["why"] or "482 tokens" in two["why"]
