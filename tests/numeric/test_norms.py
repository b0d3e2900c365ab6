"""Massive tokens: above the limit at one site is enough, at the limit is not."""

import numpy as np

from transect.numeric.norms import ordinary, ordinary_tokens


def test_a_token_is_ordinary_where_no_site_has_it_above_the_limit() -> None:
    norms = np.array([[1.0, 1.0, 1.0, 10.0, 1.0], [2.0, 2.0, 20.1, 2.0, 20.0]])
    assert ordinary(norms, 10.0).tolist() == [True, True, False, True, True]
    assert ordinary(norms, 9.9).tolist() == [True, True, False, False, False]
    assert ordinary(norms, 0.0).all()


def test_the_median_is_that_of_all_texts() -> None:
    texts = [np.ones((2, 3, 4)), np.full((2, 1, 4), 50.0), np.ones((2, 2, 4))]
    texts[2][1, 0] = 11.0
    assert [X.shape[1] for X in ordinary_tokens(texts, 10.0)] == [3, 0, 1]
    assert [X.shape[1] for X in ordinary_tokens(texts, 0.0)] == [3, 1, 2]


def test_a_token_is_left_out_where_another_run_has_it_massive() -> None:
    texts = [np.ones((2, 3, 4)), np.ones((2, 2, 4))]
    other = [X.copy() for X in texts]
    other[1][0, 1] = 50.0
    assert [X.shape[1] for X in ordinary_tokens(texts, 10.0, other)] == [3, 1]
    assert [X.shape[1] for X in ordinary_tokens(texts, 0.0, other)] == [3, 2]
