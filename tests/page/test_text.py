"""The tokens behind the points: neighbours in the original space, a cloud that two runs share, search, one
selection in every view."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

import transect as ts
from browser import at, show
from planted import planted_store
from transect.errors import TransectError
from transect.page import clouds

LENGTHS = [6, 4, 5, 7]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs of the same tokens: B is A turned, so that its own axes are other ones."""
    folder = tmp_path_factory.mktemp("clouds")
    rng = np.random.default_rng(5)
    X = rng.normal(size=(22, 5)) * [5, 3, 2, 0.1, 0.1] + [9, 0, 0, 0, 0]
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    layers = [X, X + rng.normal(size=X.shape) * np.linspace(0.1, 4, 22)[:, None]]
    for name, by in (("a", np.eye(5)), ("b", turn)):
        planted_store(
            folder / name,
            [layer @ by for layer in layers],
            LENGTHS,
            name=name,
            labels={"kind": [0, 1, 0, 1]},
        )
    return folder / "a", folder / "b"


def unpacked(file: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    raw = file.read_bytes()
    size = int.from_bytes(raw[:4], "little")
    header, at_, out = json.loads(raw[4 : 4 + size]), 4 + size, []
    for run in header["runs"]:
        out.append(np.frombuffer(raw, "<f4", 3 * run["n"], at_).reshape(-1, 3))
        out.append(np.frombuffer(raw, "<i4", 2 * run["n"], at_ + 12 * run["n"]).reshape(2, -1))
        at_ += 20 * run["n"]
    assert at_ == len(raw)
    return header, out


def test_neighbours_are_those_of_the_original_space(pair: tuple[Path, Path]) -> None:
    store = ts.open_store(pair[0])
    X, chosen = store.points("resid.0", position0=False), store.select("all", False)
    k = 7
    found = clouds.nearest(str(pair[0]), "resid.0", int(chosen.texts[k]), int(chosen.position[k]), False)
    far = np.linalg.norm(X.astype(float) - X[k], axis=1)
    far[chosen.texts == chosen.texts[k]] = np.inf
    order = np.argsort(far)[: len(found["hits"])]
    assert [(h["text"], h["position"]) for h in found["hits"]] == [
        (chosen.texts[i], chosen.position[i]) for i in order
    ]
    np.testing.assert_allclose([h["value"] for h in found["hits"]], far[order], rtol=1e-6)
    with pytest.raises(TransectError, match="no point"):
        clouds.nearest(str(pair[0]), "resid.0", 0, 0, True)


def test_what_moves_most_comes_first(pair: tuple[Path, Path]) -> None:
    store = ts.open_store(pair[0])
    found = clouds.moved(str(pair[0]), "resid.0", False)
    A, B = (store.points(s, position0=False).astype(float) for s in ("resid.0", "resid.1"))
    far = np.linalg.norm(B - A, axis=1)
    assert found["hits"][0]["value"] == pytest.approx(far.max())
    assert found["median"] == pytest.approx(np.median(far))
    values = [h["value"] for h in found["hits"]]
    assert values == sorted(values, reverse=True)
    with pytest.raises(TransectError, match="last of its kind"):
        clouds.moved(str(pair[0]), "resid.1", True)


def test_a_run_that_is_another_turned_has_the_same_cloud(pair: tuple[Path, Path], tmp_path: Path) -> None:
    clouds.cloud([str(p) for p in pair], "resid.0", False, tmp_path / "c")
    header, (A, where, B, same) = unpacked(tmp_path / "c")
    assert [r["turned"] for r in header["runs"]] == [False, True]
    np.testing.assert_allclose(B, A, atol=1e-4)
    assert (where == same).all()
    assert A.std(axis=0)[0] > A.std(axis=0)[2]
    X = ts.open_store(pair[0]).points("resid.0", position0=False).astype(float)
    gaps = [np.linalg.norm(Z[:, None] - Z[None], axis=2) for Z in (X, A)]
    np.testing.assert_allclose(gaps[1], gaps[0], atol=1.5)  # two directions of 0.1 are not drawn
    assert header["runs"][0]["labels"]["kind"] == {"values": ["0", "1"], "codes": [0, 1, 0, 1]}


def test_words_begin_in_the_token_that_holds_their_first_letter() -> None:
    pieces = ["The", " cat", " sat", " on", " the", " Cat", "'s"]
    found = {w: list(clouds._beginnings(pieces, w)) for w in ("cat", " cat", "t s", "cat's", "dog", "")}
    assert found == {"cat": [1, 5], " cat": [1, 5], "t s": [1], "cat's": [5], "dog": [], "": [1]}


def test_words_are_found_across_tokens_and_by_label(pair: tuple[Path, Path]) -> None:
    store = ts.open_store(pair[0])
    text = "".join(store.tokens(1))
    found = clouds.search(str(pair[0]), text[3:9].upper())
    assert any(h["text"] == 1 for h in found["hits"])
    assert found["texts"] == 4
    only = clouds.search(str(pair[0]), "", "kind", "1")
    assert [h["text"] for h in only["hits"]] == [1, 3]
    with pytest.raises(TransectError, match="no label"):
        clouds.search(str(pair[0]), "x", "sort", "1")


@pytest.mark.browser
def test_a_token_is_read_in_its_sentence_and_selected_everywhere(page: Any, address: str) -> None:
    show(page, address, "text?a=plain&b=tuned&layer=2&token=3&v.text=4")
    cloud = page.locator(".tx-cloud")
    expect(page.locator(".tx-cloud .tx-ring")).to_have_count(2)
    assert [n.inner_text() for n in page.locator(".tx-cloud-name").all()] == ["plain", "tuned"]
    box, ring = cloud.bounding_box(), page.locator(".tx-ring").first.bounding_box()
    page.mouse.move(ring["x"] + 8.5, ring["y"] + 8.5)
    expect(page.locator(".tx-hover")).to_contain_text("text 4, token 3")
    near = page.get_by_role("list", name="Closest to the selected token at resid.2").get_by_role("button")
    expect(near.first).to_be_visible()
    label = near.first.get_attribute("title")
    near.first.click()
    text, token = (int(word.split(" ")[-1]) for word in label.split(":")[0].split(","))
    at(page, f"token={token}&")
    at(page, f"v.text={text}")
    expect(page.get_by_role("region", name="Selected text").locator("h3")).to_contain_text(f"Text {text}")
    page.mouse.click(box["x"] + 5, box["y"] + 200)
    page.get_by_label("search tokens and texts").fill("A")
    expect(page.get_by_role("list", name="found").get_by_role("button").first).to_be_visible()
    page.get_by_label("search tokens and texts").fill("")
    page.get_by_label("colour by").select_option("month")
    page.get_by_label("texts whose month is").select_option("3")
    expect(page.get_by_role("list", name="found").get_by_role("button")).to_have_count(2)
    page.get_by_role("button", name="Depth").click()
    expect(page.locator(".tx-strip-label")).to_have_text(f"text {text}")
    expect(page.get_by_role("region", name="Tokens of this step").get_by_role("button").first).to_be_visible()
