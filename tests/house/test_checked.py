"""The hook that checks signatures does so, of functions and of methods."""

import jaxtyping
import numpy as np
import pytest
from jaxtyping import Float

import checked
from transect.numeric.norms import ordinary
from transect.store.samples import Samples, as_mask


def pair(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    return y if len(x) < 9 else y[:-1]


def test_shapes_belong_together_in_arguments_and_results() -> None:
    asked = checked.checked(pair)
    assert len(asked(np.ones((4, 2)), np.ones(4))) == 4
    for x, y in ((np.ones(4), np.ones(4)), (np.ones((4, 2)), np.ones(5)), (np.ones((9, 2)), np.ones(9))):
        with pytest.raises(jaxtyping.TypeCheckError):
            asked(x, y)


def test_functions_and_methods_of_the_package_refuse_other_types() -> None:
    with pytest.raises(TypeError, match="violates type hint"):
        ordinary("norms")  # type: ignore[arg-type]
    samples = Samples(lambda a, b: [], np.ones(3, np.int64), 4, frozenset(["float32"]), False)
    with pytest.raises(TypeError, match="violates type hint"):
        next(samples.blocks(0, 3, np.float32, 99))  # type: ignore[arg-type]
    assert as_mask([1, 0]).tolist() == [True, False]


def test_an_error_names_its_own_line() -> None:
    """Decorators that are put in do not move the code."""
    assert as_mask.__wrapped__.__code__.co_firstlineno > 100
