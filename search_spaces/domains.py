"""Float, Int, Choice, Fixed: the allowed values of one hyperparameter, written as in a sweep file.

Each is a frozen pydantic class whose fields carry the words of the file, so that the JSON Schema of
a sweep describes exactly what `parsing.parse_domain` takes. `size`, `points`, `draw`, `snap` and
`suggest` are what a search space asks of every domain; a new kind is a class here and a row in
`KINDS`.

0.1 + 0.2 is not 0.3 in binary. So values are never compared as they come: `snap` says which of a
domain's own points a value is, and points are compared.
"""

import math
import random
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from search_spaces.numbers import (
    ROUNDING_OF_STEPS,
    Scalar,
    is_near,
    is_number,
    same,
    snap_to,
    spread,
)

Finite = Annotated[float, Field(allow_inf_nan=False)]
# Optuna keeps integers as floats, which hold each of these, and not each beyond.
LARGEST_INT = 2**53
Whole = Annotated[int, Field(ge=-LARGEST_INT, le=LARGEST_INT)]
# More steps than this, and the rounding of a value is as large as the distance of two of them.
MOST_STEPS = 10**9
MOST_CHOICES = 10_000
Condition = dict[
    str, Scalar | Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=MOST_CHOICES)]
]


class _Domain(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_by_name=True, serialize_by_alias=True
    )

    when: Annotated[
        Condition,
        Field(description="the domain is in use only while each of these names has such a value"),
    ] = Field(default_factory=dict)

    def snap(self, value: object) -> Scalar | None:
        """Returns the domain's own point that `value` is, rounding aside, else None."""
        raise NotImplementedError

    def contains(self, value: object) -> bool:
        """Returns whether `value` is one of the domain's points."""
        return self.snap(value) is not None


class Float(_Domain):
    """Real numbers of a closed range; `log` draws evenly in the logarithm, `step` from low."""

    bounds: Annotated[tuple[Finite, Finite], Field(alias="float", description="low and high")]
    log: bool = False
    step: Annotated[Finite | None, Field(gt=0, description="distance of allowed values")] = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_range(*self.bounds, log=self.log)
        if not math.isfinite(self.high - self.low):
            raise ValueError(
                f"high - low must be a finite number, but got low={self.low}, high={self.high}. "
                "Narrow the range."
            )
        if self.step is None:
            return self
        if self.log:
            raise ValueError(
                f"step goes with log: false only, but got step={self.step} and log: true. "
                "Leave one of them out."
            )
        # 0.3 / 0.1 is not 3 in binary: the number of steps may miss a whole one by its rounding.
        steps = (self.high - self.low) / self.step
        if steps > MOST_STEPS:
            raise ValueError(
                f"a range must have at most {MOST_STEPS:,} steps, but got step={self.step} from "
                f"low={self.low} to high={self.high}. Use a larger step, or none."
            )
        if abs(steps - round(steps)) > 1e-9 * max(1.0, steps):
            raise ValueError(
                f"high - low must be a multiple of step, but got low={self.low}, high={self.high}, "
                f"step={self.step}. Use high={self.low + math.floor(steps) * self.step:g}."
            )
        return self

    @property
    def low(self) -> float:
        """The smallest allowed value."""
        return self.bounds[0]

    @property
    def high(self) -> float:
        """The largest allowed value."""
        return self.bounds[1]

    def size(self) -> int | None:
        """Returns the number of allowed values; None when they are a continuum."""
        if self.low == self.high:
            return 1
        return None if self.step is None else round((self.high - self.low) / self.step) + 1

    def snap(self, value: object) -> float | None:
        """Returns the allowed value that `value` is, rounding aside; None for one outside, or
        between two steps."""
        if not is_number(value):
            return None
        number = float(value)  # type: ignore[arg-type]
        if self.step is None:
            inside = min(max(number, self.low), self.high)
            return inside if inside == number or is_near(number, inside) else None
        steps = (number - self.low) / self.step
        last = (self.size() or 1) - 1
        if not -ROUNDING_OF_STEPS < steps < last + ROUNDING_OF_STEPS:
            return None
        return self._at(round(steps)) if abs(steps - round(steps)) < ROUNDING_OF_STEPS else None

    def _at(self, step: int) -> float:
        """The allowed value so many steps above low; low + n * step may round to above high."""
        assert self.step is not None
        return min(self.low + step * self.step, self.high)

    def points(self, count: int) -> list[Scalar]:
        """Returns at most `count` (≥ 1) allowed values, rising, evenly spread, ends included."""
        size = self.size()
        if size is not None and self.step is not None:
            # Spread over the numbers of the steps, so that only allowed values come.
            picks = spread(0, size - 1, min(count, size))
            return [self._at(round(pick)) for pick in picks]
        return [*spread(self.low, self.high, count, log=self.log)]

    def draw(self, rng: random.Random) -> float:
        """Returns one allowed value, uniform (in its logarithm under `log`)."""
        if self.step is not None:
            return self._at(rng.randrange(self.size() or 1))
        if self.log:
            # exp(log(x)) may miss x by its rounding, and the ends are part of the range.
            drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
            return min(max(drawn, self.low), self.high)
        return rng.uniform(self.low, self.high)

    def distribution(self) -> Any:
        """Returns the domain as an Optuna distribution."""
        return _distributions().FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def suggest(self, trial: Any, name: str) -> Scalar:
        """Returns the value that the Optuna trial picks."""
        # Asked for a value that was enqueued, Optuna returns it as it was written.
        picked = trial.suggest_float(name, self.low, self.high, log=self.log, step=self.step)
        snapped = self.snap(picked)
        return float(picked) if snapped is None else snapped

    def text(self) -> str:
        """Returns the domain in words, as `plan` shows it."""
        ending = ", log" if self.log else f", step {self.step:g}" if self.step is not None else ""
        return f"float {self.low:g} to {self.high:g}{ending}"


class Int(_Domain):
    """Whole numbers of a closed range; `log` draws them evenly in their logarithm."""

    bounds: Annotated[tuple[Whole, Whole], Field(alias="int", description="low and high")]
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_range(*self.bounds, log=self.log)
        return self

    @property
    def low(self) -> int:
        """The smallest allowed value."""
        return self.bounds[0]

    @property
    def high(self) -> int:
        """The largest allowed value."""
        return self.bounds[1]

    def size(self) -> int:
        """Returns the number of allowed values."""
        return self.high - self.low + 1

    def snap(self, value: object) -> int | None:
        """Returns the whole number of the range that `value` is, rounding aside, else None."""
        if not is_number(value):
            return None
        whole = round(value)  # type: ignore[call-overload]
        is_whole = whole == value or is_near(value, whole)  # type: ignore[arg-type]
        return whole if is_whole and self.low <= whole <= self.high else None

    def points(self, count: int) -> list[Scalar]:
        """Returns at most `count` (≥ 1) allowed values, rising, evenly spread, ends included."""
        values = spread(self.low, self.high, min(count, self.size()), log=self.log)
        # Near the low end of a logarithmic spread several values round to one number.
        return [*sorted({round(value) for value in values})]

    def draw(self, rng: random.Random) -> int:
        """Returns one allowed value, uniform (in its logarithm under `log`)."""
        if not self.log:
            return rng.randint(self.low, self.high)
        # Half a unit beyond both ends gives the first and the last value their full share.
        drawn = math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
        return min(max(round(drawn), self.low), self.high)

    def distribution(self) -> Any:
        """Returns the domain as an Optuna distribution."""
        return _distributions().IntDistribution(self.low, self.high, log=self.log)

    def suggest(self, trial: Any, name: str) -> Scalar:
        """Returns the value that the Optuna trial picks."""
        return int(trial.suggest_int(name, self.low, self.high, log=self.log))

    def text(self) -> str:
        """Returns the domain in words, as `plan` shows it."""
        return f"int {self.low} to {self.high}{', log' if self.log else ''}"


class _Listed(_Domain):
    """A domain that is a list of values."""

    @property
    def values(self) -> tuple[Scalar, ...]:
        """The allowed values in the order of the file."""
        raise NotImplementedError

    def size(self) -> int:
        """Returns the number of allowed values."""
        return len(self.values)

    def snap(self, value: object) -> Scalar | None:
        """Returns the listed value that `value` is, rounding aside, else None."""
        if not isinstance(value, Scalar):
            return None
        index = self._places.get(value)
        if index is not None and same(self.values[index], value):
            return self.values[index]
        return snap_to(self.values, value)

    @cached_property
    def _places(self) -> dict[Scalar, int]:
        """The place of each value: a list may be long, and each trial of a plan asks."""
        return {value: index for index, value in enumerate(self.values)}

    def points(self, count: int) -> list[Scalar]:
        """Returns every value, whatever `count` is: there is none between two others."""
        return list(self.values)

    def draw(self, rng: random.Random) -> Scalar:
        """Returns one of the values, each equally likely."""
        return rng.choice(self.values)

    def distribution(self) -> Any:
        """Returns the domain as an Optuna distribution."""
        return _distributions().CategoricalDistribution(self.values)

    def suggest(self, trial: Any, name: str) -> Scalar:
        """Returns the value that the Optuna trial picks."""
        picked: Scalar = trial.suggest_categorical(name, self.values)
        return picked


class Choice(_Listed):
    """Some values without an order."""

    choice: Annotated[tuple[Scalar, ...], Field(max_length=MOST_CHOICES, description="the values")]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.choice:
            raise ValueError("choice must list at least one value, but got []. Add a value.")
        _check_finite(self.choice)
        earlier: set[Scalar] = set()
        for value in self.choice:
            # 1, 1.0 and true are equal to Optuna, which keeps the index of a choice: with two of
            # them in a list it could not say which one a trial had. So they count as one here.
            if value in earlier:
                raise ValueError(
                    f"the values of choice must differ, but got {value!r:.80} twice. Remove one."
                )
            earlier.add(value)
        return self

    @property
    def values(self) -> tuple[Scalar, ...]:
        """The allowed values in the order of the file."""
        return self.choice

    def text(self) -> str:
        """Returns the domain in words, as `plan` shows it."""
        return "one of " + ", ".join(str(value) for value in self.choice)


class Fixed(_Listed):
    """A single value: a hyperparameter that is pinned, perhaps only under a condition."""

    fixed: Annotated[Scalar, Field(description="the value")]

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_finite((self.fixed,))
        return self

    @property
    def values(self) -> tuple[Scalar, ...]:
        """The one allowed value."""
        return (self.fixed,)

    def text(self) -> str:
        """Returns the domain in words, as `plan` shows it."""
        return f"always {self.fixed}"


KINDS: Mapping[str, type[Float] | type[Int] | type[Choice] | type[Fixed]] = {
    "float": Float,
    "int": Int,
    "choice": Choice,
    "fixed": Fixed,
}


def _distributions() -> Any:
    """Returns Optuna's module of distributions; a domain is checked and shown without it."""
    import optuna.distributions

    return optuna.distributions


def _kind(value: Any) -> str | None:
    if isinstance(value, _Domain):
        return next(kind for kind, domain in KINDS.items() if isinstance(value, domain))
    return next((kind for kind in KINDS if kind in value), None)


Domain = Annotated[
    Annotated[Float, Tag("float")]
    | Annotated[Int, Tag("int")]
    | Annotated[Choice, Tag("choice")]
    | Annotated[Fixed, Tag("fixed")],
    Discriminator(_kind),
]


def _check_range(low: float, high: float, *, log: bool) -> None:
    if low > high:
        raise ValueError(
            f"low <= high must hold, but got low={low}, high={high}. Swap them, or correct one."
        )
    if log and low <= 0:
        raise ValueError(
            f"low > 0 must hold when log is true, but got low={low}. "
            "Use a positive low, or log: false."
        )


def _check_finite(values: tuple[Scalar, ...]) -> None:
    for value in values:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"numbers must be finite, but got {value}. Use a finite number.")
