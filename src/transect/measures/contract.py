"""The measure contract: a pure function whose positional parameters are data and whose keyword-only ones are
options.

`@measure` reads that signature and adds what a signature cannot say: the source in the literature, the
declared invariances, the value on itself, whether rows are paired. Commands, help, table columns, controls
and contract tests all follow from it. A fast path is attached with `@name.prepare` and `@name.pairs`; it must
equal the definition.
"""

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Required, TypedDict, Unpack

import numpy as np

from transect.errors import TransectError
from transect.measures.arrays import as_labels, as_points, attempt, plain
from transect.measures.options import _option

#: What a measure may declare. "common …" acts on both clouds at once; the others on each cloud by itself.
INVARIANCES = frozenset(
    {"rotation", "isotropic scaling", "translation", "linear", "feature scaling"}
    | {"common rotation", "common translation", "common scaling", "row order"}
)
#: Where a measure's values live: intervals are symmetric there (see `inference.intervals`).
SCALES = ("identity", "log", "fisher", "logit")
#: What a value estimates: a property of the population of texts, or a reading that moves with n.
ESTIMANDS = ("population", "at n")
REGISTRY: dict[str, "Measure"] = {}


class Declared(TypedDict, total=False):
    """What a measure says of itself beside its signature.

    `itself`: its value on (X, X), 0 for distances, 1 for similarities, None where there is none. `paired`:
    row i of X and row i of Y are views of one point. `headline`: the field of a named-tuple result that a
    table shows as `value`. `invariant_to`: members of INVARIANCES, each tested. `scale`: where intervals are
    symmetric. `estimand`: "population" when the value does not move with n on average, else "at n". `label`,
    `unit`, `more`: words for axes, the unit of the value, and what a larger value means.
    """

    source: Required[str]
    invariant_to: Iterable[str]
    itself: float | None
    paired: bool
    headline: str
    min_points: int
    scale: Literal["identity", "log", "fisher", "logit"]
    estimand: Literal["population", "at n"]
    label: str
    unit: str
    more: str


class Measure:
    """A measure: call it on arrays, or hand it to `sweep`. See `Declared` for what is declared."""

    def __init__(self, func: Callable[..., Any], **declared: Unpack[Declared]) -> None:
        self.func, self.name, self.__doc__ = func, func.__name__, inspect.cleandoc(func.__doc__ or "")
        self.__name__, self.__module__, self.__wrapped__ = func.__name__, func.__module__, func
        self.source: str = declared["source"]
        self.invariant_to: frozenset[str] = frozenset(declared.get("invariant_to", ()))
        self.itself: float | None = declared.get("itself")
        self.paired: bool = declared.get("paired", False)
        self.headline: str = declared.get("headline", "")
        self.min_points: int = declared.get("min_points", 2)
        self.scale: str = declared.get("scale", "identity")
        self.estimand: str = declared.get("estimand", "at n")
        self.label: str = declared.get("label") or func.__name__.replace("_", " ")
        self.unit: str = declared.get("unit", "")
        self.more: str = declared.get("more", "")
        parameters = inspect.signature(func).parameters.values()
        self.data = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
        hints = typing.get_type_hints(func, include_extras=True)
        self.options = {
            p.name: _option(p, hints.get(p.name, str)) for p in parameters if p.kind is p.KEYWORD_ONLY
        }
        spaces = {str(getattr(hints.get(name), "dim_str", name)).split()[-1] for name in self.data}
        self.one_space: bool = (
            self.data == ("X", "Y") and len(spaces) == 1
        )  # "n d" and "m d": both are of width d
        self.fields: tuple[str, ...] = getattr(hints.get("return"), "_fields", ())
        self._prepare: Callable[..., Any] | None = None
        self._wanted: frozenset[str] = frozenset()  # options that `prepare` names
        self._pairs: Callable[..., Any] | None = None
        self._by_text = False
        self._permuted: Callable[..., Any] | None = None
        self._population: Callable[..., Any] | None = None
        assert self.scale in SCALES, f"{self.name}: scale {self.scale!r}"
        assert self.estimand in ESTIMANDS, f"{self.name}: estimand {self.estimand!r}"
        assert self.data in {("X",), ("X", "Y"), ("X", "y")}, f"{self.name}: data must be X; X, Y; or X, y"
        assert self.invariant_to <= INVARIANCES, f"{self.name}: unknown {self.invariant_to - INVARIANCES}"
        assert not self.fields or self.headline in self.fields, (
            f"{self.name}: headline must be one of {self.fields}"
        )

    def __call__(self, *data: Any, **options: Any) -> Any:
        if len(data) != len(self.data):
            raise TransectError(f"{self.name}: takes {', '.join(self.data)}; got {len(data)} arrays.")
        options = self.check_options(options)
        return plain(self.func(*self.check(*data), **options))

    def __repr__(self) -> str:
        return f"<measure {self.name}({', '.join(self.data)})>"

    def check(self, *data: Any) -> list[np.ndarray]:
        """The data as NumPy arrays fit for the definition; TransectError says what is wrong with which
        array."""
        arrays = [
            as_labels(value, self.name) if name == "y" else as_points(value, f"{self.name}: {name}")
            for name, value in zip(self.data, data, strict=True)
        ]
        if misfit := self._misfit([a.shape for a in arrays]):
            raise misfit
        n = [len(a) for a in arrays]
        if min(n) < self.min_points:
            raise TransectError(
                f"{self.name}: needs at least {self.min_points} points, got {min(n)}.", "Add texts."
            )
        return arrays

    def _misfit(self, shapes: Sequence[tuple[int, ...]]) -> TransectError | None:
        """What is wrong with these shapes together: rows where points are shared, widths where the signature
        names one."""
        n = [shape[0] for shape in shapes]
        if (self.paired or "y" in self.data) and len(set(n)) > 1:
            return TransectError(
                f"{self.name}: needs the same points in each array; got {n} rows.", "Pass equal rows."
            )
        if self.one_space and len(widths := {shape[1] for shape in shapes}) > 1:
            return TransectError(
                f"{self.name}: needs one space for both clouds; got {sorted(widths)} dimensions.",
                "Compare sites of one width.",
            )
        return None

    def check_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options, values as the signature has them. Raises: TransectError for one that it lacks."""
        if unknown := ", ".join(sorted(set(options) - set(self.options))):
            known = ", ".join(self.options) or "none"
            raise TransectError(f"{self.name}: no option {unknown}.", f"Options: {known}.")
        return {name: self.options[name].checked(value) for name, value in options.items()}

    def defaults(self, options: dict[str, Any]) -> dict[str, Any]:
        """Every option of the signature, `options` filled up with the defaults."""
        return {name: option.default for name, option in self.options.items()} | self.check_options(options)

    def prepare(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Attach `prepare(X, **options)`: work done once per cloud, for `pairs`. It names only the options it
        uses."""
        self._prepare, self._wanted = func, frozenset(inspect.signature(func).parameters)
        return func

    def pairs(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Attach `pairs(prepared, which, **options)`: one result for each (i, j) in `which`, in order, where
        `prepared[i]` is what `prepare` made of cloud i; (i,) for a measure of one cloud. One that also takes
        `per_text` is told how many rows each text has, rows text by text, and needs `min_points` texts."""
        self._pairs, self._by_text = func, "per_text" in inspect.signature(func).parameters
        return func

    def permuted(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Attach `permuted(prepared, which, order, k, **options)`: for each (i, j) the values under
        permutations of whole texts of the second view, [draws]; `order` [draws, T] permutes texts of k rows
        each. It re-uses what `prepare` made, and equals the definition on permuted rows."""
        self._permuted = func
        return func

    def population(
        self,
        func: Callable[..., Any],
        says: str = "population",
        then: Callable[[Any], Any] = lambda value: value,
    ) -> Callable[..., Any]:
        """Attach `population(X, texts)`: an estimate of the population's value, from points and their texts.

        Sweeps use it, at default options, in place of the definition, which moves with n. `says` goes into
        the column estimand. `then` makes the value of what `func` gives, so that measures may share it.
        """
        self._population, self._says, self._then = func, says, then
        return func

    @property
    def estimates(self) -> str:
        """What a sweep's value estimates: "population", "at n", or what an attached estimator says."""
        return self._says if self._population is not None else self.estimand

    def estimate(
        self, X: np.ndarray, texts: np.ndarray, cache: dict[Any, Any] | None = None, /, **options: Any
    ) -> Any:
        """The population's value where an estimator is attached, at default options; else the definition.
        Measures with one estimator share its work through `cache`, which belongs to this very cloud."""
        usual = all(self.options[k].default == v for k, v in options.items())
        func, cache = self._population, {} if cache is None else cache
        if func is None or not usual:
            return attempt(lambda: self(X, **options))
        if func not in cache:
            cache[func] = attempt(lambda: func(self._checked(X)[0], texts))
        return cache[func] if isinstance(cache[func], TransectError) else plain(self._then(cache[func]))

    def _too_few(self, texts: int) -> TransectError | None:
        """What is wrong with so few texts, where the fast path counts them."""
        why = f"{self.name}: needs at least {self.min_points} texts, got {texts}."
        return TransectError(why, "Add texts.") if self._by_text and texts < self.min_points else None

    @property
    def cheap_null(self) -> bool:
        """Whether many draws of the whole-text null cost little (`permuted` is there)."""
        return self._permuted is not None

    def null_values(
        self,
        clouds: Sequence[np.ndarray],
        which: Sequence[tuple[int, int]],
        order: np.ndarray,
        k: int,
        cache: dict[Any, Any] | None = None,
        /,
        **options: Any,
    ) -> list[list[Any]]:
        """For each (i, j) one result a permutation of whole texts: row order [draws, T], k tokens of each
        text."""
        if self._permuted is not None and self._prepare is not None:
            prepared, failed, options = self._prepared(clouds, which, cache, k, options)
            good = [pair for pair in which if all(i in prepared for i in pair)]
            done = dict(zip(good, self._permuted(prepared, good, order, k, **options), strict=True))
            return [
                list(map(plain, done[pair]))
                if pair in done
                else [next(failed[i] for i in pair if i in failed)]
                for pair in which
            ]
        moved: list[list[Any]] = [[] for _ in which]
        for p in order:
            rows = (p[:, None] * k + np.arange(k)).ravel()
            second = {j: clouds[j][rows] for _, j in which}
            arrays, at = list(clouds), {}
            for j, array in second.items():
                at[j] = len(arrays)
                arrays.append(array)
            values = self.values(arrays, [(i, at[j]) for i, j in which], None, k, **options)
            for row, value in zip(moved, values, strict=True):
                row.append(value)
        return moved

    def values(
        self,
        clouds: Sequence[np.ndarray],
        which: Sequence[tuple[int, ...]],
        cache: dict[Any, Any] | None = None,
        per_text: int = 1,
        **options: Any,
    ) -> list[Any]:
        """One result for each (i, j), or (i,) for a measure of one cloud, by the fast path where there is
        one; `per_text` rows of each text.

        An error comes as a result. Measures that share a `prepare` share its work through `cache`, which
        belongs to these very clouds.
        """
        if self._pairs is None or self._prepare is None:
            return [attempt(lambda pair=pair: self(*(clouds[k] for k in pair), **options)) for pair in which]
        prepared, failed, options = self._prepared(clouds, which, cache, per_text, options)
        options |= {"per_text": per_text} if self._by_text else {}
        complete = [pair for pair in which if all(k in prepared for k in pair)]
        misfits = {
            pair: error for pair in complete if (error := self._misfit([np.shape(clouds[k]) for k in pair]))
        }
        good = [pair for pair in complete if pair not in misfits]
        done = misfits | dict(zip(good, map(plain, self._pairs(prepared, good, **options)), strict=True))
        return [
            done[pair] if pair in done else next(failed[k] for k in pair if k in failed) for pair in which
        ]

    def _prepared(
        self,
        clouds: Sequence[np.ndarray],
        which: Sequence[tuple[int, ...]],
        cache: dict[Any, Any] | None,
        per_text: int,
        options: dict[str, Any],
    ) -> tuple[dict[int, Any], dict[int, TransectError], dict[str, Any]]:
        """(cloud → what `prepare` made of it, cloud → why it could not, all options)."""
        prepare, options, cache = self._prepare, self.defaults(options), {} if cache is None else cache
        assert prepare is not None
        accepted = {k: v for k, v in options.items() if k in self._wanted}
        prepared, failed = {}, {}
        for k in sorted({k for pair in which for k in pair}):
            key = (prepare, k, *sorted(accepted.items()))
            if key not in cache:
                cache[key] = attempt(lambda k=k: prepare(*self._checked(clouds[k]), **accepted))
            state = self._too_few(len(clouds[k]) // per_text) or cache[key]
            (failed if isinstance(state, TransectError) else prepared)[k] = state
        return prepared, failed, options

    def _checked(self, cloud: np.ndarray) -> list[np.ndarray]:
        array = as_points(cloud, f"{self.name}: X")
        if len(array) < self.min_points:
            raise TransectError(
                f"{self.name}: needs at least {self.min_points} points, got {len(array)}.", "Add texts."
            )
        return [array]

    @property
    def summary(self) -> str:
        """The docstring's first paragraph: what, units, range."""
        return inspect.cleandoc(self.__doc__ or "").split("\n\n")[0].replace("\n", " ")

    @property
    def control(self) -> str:
        """The null that follows from the declaration."""
        if "y" in self.data:
            return "permuted labels"
        if "Y" not in self.data:
            return "shuffled columns"
        return "permuted texts" if self.paired else "split halves"

    def headline_of(self, result: Any) -> float:
        """The number that stands for `result` in a table's `value`."""
        return float(getattr(result, self.headline) if self.fields else result)


def measure(**declared: Unpack[Declared]) -> Callable[[Callable[..., Any]], Measure]:
    """Declare the function below as a measure; see `Declared` for what a signature cannot say."""

    def wrap(func: Callable[..., Any]) -> Measure:
        declared_measure = Measure(func, **declared)
        REGISTRY[declared_measure.name] = declared_measure
        return declared_measure

    return wrap
