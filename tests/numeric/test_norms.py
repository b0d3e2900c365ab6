"""Massive tokens: above the limit at one site is enough, at the limit is not."""

import numpy as np

from transect.numeric.norms import ordinary


def test_a_token_is_ordinary_where_no_site_has_it_above_the_limit() -> None:
    norms = np.array([[1.0, 1.0, 1.0, 10.0, 1.0], [2.0, 2.0, 20.1, 2.0, 20.0]])
    assert ordinary(norms, 10.0).tolist() == [True, True, False, True, True]
    assert ordinary(norms, 9.9).tolist() == [True, True, False, False, False]
    assert ordinary(norms, 0.0).all()
