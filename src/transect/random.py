"""Random streams by name: `rng(seed, "halves", 3)` is a generator that no other name or number shares."""

import hashlib

import numpy as np


def rng(seed: int, *names: str | int) -> np.random.Generator:
    """The generator of a stream: the same seed and names give the same numbers, other ones independent
    numbers.

    >>> bool(rng(0, "halves").integers(1 << 30) == rng(0, "halves").integers(1 << 30))
    True
    """
    digest = hashlib.sha256("\0".join(map(str, names)).encode()).digest()
    words = np.frombuffer(digest[:16], "<u4").tolist()
    return np.random.default_rng([seed, *words])
