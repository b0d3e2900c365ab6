"""Batched twin of the entropic solver on torch: many pairs of one shape at once, for an accelerator.

The same kernels, absorption, acceleration and safeguard as `numeric/sinkhorn.py`, row by row of a batch. A
pair leaves the batch once it has converged, so that its result does not depend on the others. What has not
converged is the caller's to solve again, annealed.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from transect.numeric.sinkhorn import DEPTH, DRIFT, FLOOR, LEEWAY, NARROW_TOL, Cloud, nothing, rounding

#: Entries of the kernels of one batch: a gigabyte in float32, three with the costs and a copy.
ENTRIES = 2**28
Tensor = torch.Tensor
State = dict[str, Tensor]


def between(
    pairs: Sequence[tuple[Cloud, Cloud]], epsilon: float, tol: float, max_iter: int, device: str
) -> list[tuple[float, float, float, int, float] | None]:
    """<P, C>, dual value, absolute eps, iterations and error of each pair of clouds of one shape; None where
    the median cost is 0."""
    n, m = (len(cloud.points) for cloud in pairs[0])
    results: list[Any] = [None] * len(pairs)
    narrow = [tol >= NARROW_TOL and np.isfinite(rounding(X, Y)) for X, Y in pairs]
    waiting = {torch.float32: [k for k, fits in enumerate(narrow) if fits]}
    waiting[torch.float64] = [k for k, fits in enumerate(narrow) if not fits]
    for dtype in (torch.float32, torch.float64):  # what float32 turns out not to hold goes on to float64
        there = _sent([cloud for k in waiting[dtype] for cloud in pairs[k]], dtype, device)
        for rows in _parts(waiting[dtype], n * m):
            C = torch.stack([_squares(*(there[id(cloud)] for cloud in pairs[k])) for k in rows])
            middle = _median(C).double().cpu().numpy()
            fits = middle > [nothing(*pairs[k]) for k in rows]
            if dtype == torch.float32:
                fits &= [rounding(*pairs[k]) for k in rows] < LEEWAY * epsilon * middle
                waiting[torch.float64] += [k for k, good in zip(rows, fits, strict=True) if not good]
            fitting = np.flatnonzero(fits)
            if len(fitting):
                eps = epsilon * middle[fitting]
                kept = C if len(fitting) == len(rows) else C[torch.as_tensor(fitting, device=C.device)]
                columns = _couple(kept, torch.as_tensor(eps, device=C.device), tol, max_iter)
                cost, value, iterations, error = (column.tolist() for column in columns)
                for at, outcome in zip(
                    fitting, zip(cost, value, eps.tolist(), iterations, error, strict=True), strict=True
                ):
                    results[rows[at]] = outcome
    return results


def within(
    clouds: Sequence[tuple[Cloud, float]], tol: float, max_iter: int, device: str
) -> list[tuple[float, float]]:
    """OT_eps of each cloud of one size with itself at its eps (dual value), and the marginal error."""
    n = len(clouds[0][0].points)
    results: list[tuple[float, float]] = [(np.nan, np.inf)] * len(clouds)
    narrow = [tol >= NARROW_TOL and rounding(X, X) < LEEWAY * eps for X, eps in clouds]
    for dtype in (torch.float32, torch.float64):
        of_dtype = [k for k, fits in enumerate(narrow) if fits == (dtype == torch.float32)]
        there = _sent([clouds[k][0] for k in of_dtype], dtype, device)
        for rows in _parts(of_dtype, n * n):
            names = {id(clouds[k][0]) for k in rows}
            squares = {name: _squares(there[name], there[name]).fill_diagonal_(0) for name in names}
            scale = torch.tensor([-1 / clouds[k][1] for k in rows], dtype=dtype, device=device)
            K = torch.stack([squares[id(clouds[k][0])] for k in rows])
            K = K.mul_(scale[:, None, None]).clamp_(FLOOR, 0).exp_()
            eps = torch.tensor([clouds[k][1] for k in rows], dtype=torch.float64, device=device)
            values, errors = _alone(K, eps, tol, max_iter)
            for k, value, error in zip(rows, values.tolist(), errors.tolist(), strict=True):
                results[k] = value, error
    return results


# below: helpers in reading order


def _parts(rows: list[int], entries: int) -> list[list[int]]:
    """Rows in batches that `ENTRIES` hold."""
    size = max(1, ENTRIES // entries)
    return [rows[k : k + size] for k in range(0, len(rows), size)]


def _sent(clouds: Sequence[Cloud], dtype: torch.dtype, device: str) -> dict[int, tuple[Tensor, Tensor]]:
    """Points about their own mean, and that mean in float64, of each cloud on the device, sent once."""
    sent: dict[int, tuple[Tensor, Tensor]] = {}
    for X in clouds:
        if id(X) not in sent:
            points = X.centred if dtype == torch.float32 else X.points - X.mean
            sent[id(X)] = tuple(torch.as_tensor(Z, device=device) for Z in (points, X.mean))  # type: ignore
    return sent


def _squares(X: tuple[Tensor, Tensor], Y: tuple[Tensor, Tensor]) -> Tensor:
    """Squared distances [n, m], both clouds about Y's mean, as `squared_distances` has them."""
    (A, middle), (B, other) = X, Y
    A = A + (middle - other).to(A.dtype)
    return ((A * A).sum(1)[:, None] + (B * B).sum(1)).sub_(2 * A @ B.T).clamp_(min=0)


def _median(C: Tensor) -> Tensor:
    """Median of each matrix of a batch [b]: a mean of the two middle entries where their number is even."""
    flat = C.flatten(1)
    half = flat.shape[1] // 2
    upper = flat.kthvalue(half + 1, dim=1).values
    return upper if flat.shape[1] % 2 else (upper + flat.kthvalue(half, dim=1).values) / 2


def _couple(C: Tensor, eps: Tensor, tol: float, max_iter: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """<P, C>, value, iterations and error, each [b], of uniform couplings at C [b, n, m]; see `couple`."""
    _, n, m = C.shape
    start = C.amin(dim=1).double() / eps[:, None]
    state: State = {"C": C, "eps": eps, "h": start}
    _absorb(state, torch.arange(len(C), device=C.device))

    def step(state: State, h: Tensor) -> tuple[Tensor, Tensor]:
        far = (h - state["anchor"]).abs().amax(1) > DRIFT
        if bool(far.any()):
            rows = far.nonzero()[:, 0]
            state["h"] = h
            _absorb(state, rows)
        K = state["K"]
        state["right"] = (h - state["anchor"]).exp().to(K.dtype)
        state["left"] = 1 / n / torch.bmm(K, state["right"][..., None])[..., 0]
        mass = torch.bmm(state["left"][:, None], K)[:, 0] * state["right"]
        mass = mass.clamp(min=torch.finfo(torch.float32).tiny).double()
        return h - (m * mass).log(), (mass - 1 / m).abs().sum(1)

    def finish(state: State, h: Tensor) -> dict[str, Tensor]:
        left, right, K = state["left"], state["right"], state["K"]
        f = (n * m * left.double()).log() - state["top"].double()
        value = state["eps"] * (f.mean(1) + h.mean(1))
        rows = torch.stack([(k * c) @ r for k, c, r in zip(K, state["C"], right, strict=True)])
        return {"cost": (left.double() * rows.double()).sum(1), "value": value}

    solution = _accelerate(step, finish, state, start, tol, max_iter)
    return solution["cost"], solution["value"], solution["iterations"], solution["error"]


def _absorb(state: State, rows: Tensor) -> None:
    """kernel = exp(h - C / eps - top) of these rows: the largest entry of each row of a kernel is 1."""
    h = state["h"][rows]
    M = state["C"][rows].mul_((-1 / state["eps"][rows]).to(state["C"].dtype)[:, None, None])
    M += h.to(M.dtype)[:, None]
    top = M.amax(2)
    M = M.sub_(top[..., None]).clamp_(FLOOR, 0).exp_()
    if len(rows) == len(state["C"]):
        state["K"], state["top"], state["anchor"] = M, top, h.clone()
    else:
        state["K"][rows], state["top"][rows], state["anchor"][rows] = M, top, h


def _alone(K: Tensor, eps: Tensor, tol: float, max_iter: int) -> tuple[Tensor, Tensor]:
    """Value and error [b] of clouds with themselves, from their kernels [b, n, n]; see `self_value`."""
    n = K.shape[1]

    def mass(state: State, f: Tensor) -> Tensor:
        scale = f.exp()
        return scale * torch.bmm(state["K"], scale.to(K.dtype)[..., None])[..., 0].double() / n

    def step(state: State, f: Tensor) -> tuple[Tensor, Tensor]:
        rows = mass(state, f)
        return f - rows.log() / 2, (rows - 1).abs().mean(1)

    def finish(state: State, f: Tensor) -> dict[str, Tensor]:
        return {"value": state["eps"] * (2 * f.mean(1) - mass(state, f).mean(1) + 1)}

    start = torch.zeros(len(K), n, dtype=torch.float64, device=K.device)
    solution = _accelerate(step, finish, {"K": K, "eps": eps}, start, tol, max_iter)
    return solution["value"], solution["error"]


def _accelerate(
    step: Callable[[State, Tensor], tuple[Tensor, Tensor]],
    finish: Callable[[State, Tensor], dict[str, Tensor]],
    problem: State,
    x: Tensor,
    tol: float,
    max_iter: int,
) -> dict[str, Tensor]:
    """`accelerate` for each row of x [b, m] by itself; `finish` reads a row's answer from its last step.

    An empty history is a row of zeros, which mixes nothing in. Rows that have ended leave once they are half
    of the batch; until then they stand still.
    """
    b, width = x.shape
    state: State = problem | {
        "row": torch.arange(b, device=x.device),
        "x": x,
        "plain": x,
        "last_x": x,
        "last_r": torch.zeros_like(x),
        "known": torch.zeros(b, dtype=torch.bool, device=x.device),
        "best": torch.full((b,), torch.inf, dtype=x.dtype, device=x.device),
        "dX": x.new_zeros(b, DEPTH, width),
        "dR": x.new_zeros(b, DEPTH, width),
        "live": torch.ones(b, dtype=torch.bool, device=x.device),
        "iterations": torch.zeros(b, dtype=torch.int64, device=x.device),
    }
    result: dict[str, Tensor] = {}
    for iteration in range(1, max_iter + 1):
        after, error = step(state, state["x"])
        state["iterations"] += state["live"]
        state["error"] = error
        state["live"] = ~(error < tol)
        left = int(state["live"].sum())
        if iteration == max_iter or left == 0:
            _tell(result, state, finish, b)
            return result
        if left <= len(error) // 2:
            _tell(result, state, finish, b)
            keep = state["live"].nonzero()[:, 0]
            state = {name: value[keep] for name, value in state.items()}
            after, error = after[keep], error[keep]
        _move(state, after, error, iteration % DEPTH)
    raise AssertionError("max_iter is at least 1")


def _move(state: State, after: Tensor, error: Tensor, slot: int) -> None:
    """The next x of every live row: mixed, or plain from the last good point where the error has doubled."""
    bad = state["known"] & ~(error < 2 * state["best"])
    good, residual = (~bad)[:, None], after - state["x"]
    fresh = (state["known"] & ~bad)[:, None]
    for name, now, last in (("dX", state["x"], "last_x"), ("dR", residual, "last_r")):
        state[name] *= good[..., None]
        state[name][:, slot] = torch.where(fresh, now - state[last], 0)
    state["best"] = torch.where(bad, torch.inf, torch.minimum(state["best"], error))
    state["last_x"], state["last_r"], state["known"] = state["x"], residual, ~bad
    moved = torch.where(good, _mix(after, residual, state["dX"], state["dR"]), state["plain"])
    state["plain"] = torch.where(good, after, state["plain"])
    state["x"] = torch.where(state["live"][:, None], moved, state["x"])


def _mix(plain: Tensor, residual: Tensor, dX: Tensor, dR: Tensor) -> Tensor:
    """Anderson's type-II step of each row; plain where it is not finite."""
    G = torch.bmm(dR, dR.transpose(1, 2))
    ridge = 1e-10 * G.diagonal(dim1=1, dim2=2).sum(1) + 1e-300
    G = G + torch.diag_embed(ridge[:, None].expand(-1, G.shape[1]))
    gamma, _ = torch.linalg.solve_ex(G, torch.bmm(dR, residual[..., None]))
    mixed = plain - torch.bmm((dX + dR).transpose(1, 2), gamma)[..., 0]
    return torch.where(mixed.isfinite().all(1, keepdim=True), mixed, plain)


def _tell(result: dict[str, Tensor], state: State, finish: Callable[..., dict[str, Tensor]], b: int) -> None:
    """Keep the answers of all rows of the batch; those that go on are told again later."""
    answers = finish(state, state["x"]) | {name: state[name] for name in ("iterations", "error")}
    for name, value in answers.items():
        result.setdefault(name, value.new_zeros(b))[state["row"]] = value
