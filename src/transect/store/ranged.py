"""Rows of an array inside a remote file, of which only those that are asked for travel."""

import numpy as np

from transect.errors import TransectError
from transect.files import Place, reaching


class Ranged:
    """An array [rows, width] inside a remote file, of which only the asked rows travel."""

    #: Rows that are read along rather than asked for anew.
    GAP = 64

    def __init__(self, path: Place, offset: int, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self.path, self.offset, self.dtype, self.shape = path, offset, dtype, shape

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            begin, end, _ = rows.indices(self.shape[0])
            return self._runs([(begin, end)])[0]
        if not len(rows):
            return np.empty((0, self.shape[1]), self.dtype)
        order = np.unique(rows)
        cuts = np.flatnonzero(np.diff(order) > self.GAP) + 1
        runs = [(int(part[0]), int(part[-1]) + 1) for part in np.split(order, cuts)]
        starts = np.array([a for a, _ in runs])
        which = np.searchsorted(starts, rows, side="right") - 1
        out = np.empty((len(rows), self.shape[1]), self.dtype)
        for k, (piece, (begin, _)) in enumerate(zip(self._runs(runs), runs, strict=True)):
            out[which == k] = piece[rows[which == k] - begin]
        return out

    def _runs(self, runs: list[tuple[int, int]]) -> list[np.ndarray]:
        size = self.shape[1] * self.dtype.itemsize
        begins = [self.offset + a * size for a, _ in runs]
        ends = [self.offset + b * size for _, b in runs]
        with reaching(self.path):
            parts = self.path.fs.cat_ranges([self.path.path] * len(runs), begins, ends, on_error="raise")
        for part, a, b in zip(parts, begins, ends, strict=True):
            if len(part) != b - a:
                raise TransectError(
                    f"{self.path}: {len(part)} of {b - a} bytes came.", "The file is cut short."
                )
        return [np.frombuffer(p, self.dtype).reshape(-1, self.shape[1]) for p in parts]
