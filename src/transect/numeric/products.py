"""Large matrix products, on an accelerator where `TRANSECT_DEVICE` names one: neurons' correlations, Gram
matrices.

Arrays in, arrays out, in the precision they have; float32 stays float32 there too (no TF32). What comes back
differs from the processor's by the order of its sums.
"""

import os

import numpy as np

from transect.errors import TransectError

#: Products of fewer multiplications than this are not worth the way to an accelerator and back.
WORTH = 2**28
#: Squared distances below this share of the squared norms are measured, so many at once.
CANCELS, MEASURED = 1e-5, 4096


def product(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """A @ B.

    Raises: TransectError when `TRANSECT_DEVICE` names a device that torch cannot use here.
    """
    device = os.environ.get("TRANSECT_DEVICE", "cpu")
    if device == "cpu" or A.shape[0] * A.shape[-1] * B.shape[-1] < WORTH:
        return A @ B
    import torch

    try:
        was = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            left, right = (torch.as_tensor(np.ascontiguousarray(X)).to(device) for X in (A, B))
            return (left @ right).cpu().numpy()
        finally:
            torch.backends.cuda.matmul.allow_tf32 = was
    except (RuntimeError, AssertionError) as error:
        raise TransectError(
            f"TRANSECT_DEVICE={device}: torch cannot use it here ({str(error).splitlines()[0]:.80}).",
            "Unset it, or name a device that is there: cuda, mps, cpu.",
        ) from error


def squared_apart(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Squared distances [n, m] of float64 points about one mean, by products; those that would cancel are
    measured, so that every one is right to 1e-10 of itself and equal points are 0 apart."""
    a, b = np.einsum("ij,ij->i", A, A), np.einsum("ij,ij->i", B, B)
    far = a[:, None] + b - 2 * A @ B.T
    i, j = np.nonzero(far < CANCELS * (a[:, None] + b))
    for at in range(0, len(i), MEASURED):
        part = slice(at, at + MEASURED)
        apart = A[i[part]] - B[j[part]]
        far[i[part], j[part]] = np.einsum("ij,ij->i", apart, apart)
    return far
