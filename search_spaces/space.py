"""SearchSpace: hyperparameter name → domain, with conditions between them.

A name with `when` is *active* only while each name it depends on is active and has one of the
listed values. Inactive names are absent from every point: no trial carries a value it does not use.
"""

import math
import random
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from search_spaces.domains import Choice, Domain
from search_spaces.numbers import Scalar
from search_spaces.parsing import nearest, parse_domain

Point = dict[str, Scalar]
MOST_BRANCHES = 10_000


class SearchSpace(BaseModel):
    """The allowed points of a search, built with `parse`; in `domains` every name follows the names
    that it depends on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    domains: Annotated[dict[str, Domain], Field(description="name → domain, parents first")]

    @classmethod
    def parse(cls, search: Mapping[str, object]) -> Self:
        """Returns the space that the `search` section of a sweep file describes.

        Raises `ValueError` beginning with `search.NAME` when a domain is wrong, a condition names
        something that is not searched or a value that it cannot take, or conditions form a circle.
        """
        domains = {name: parse_domain(f"search.{name}", raw) for name, raw in search.items()}
        for name, domain in domains.items():
            for parent, wanted in domain.when.items():
                _check_condition(name, parent, _listed(wanted), domains)
        return cls(domains={name: domains[name] for name in _parents_first(domains)})

    @property
    def names(self) -> list[str]:
        """Every searched name, parents first."""
        return list(self.domains)

    @property
    def has_conditions(self) -> bool:
        """Whether some name is active in a part of the space only."""
        return any(domain.when for domain in self.domains.values())

    def is_active(self, name: str, values: Mapping[str, Scalar]) -> bool:
        """Returns whether `name` is in use next to `values`, which hold its active parents."""
        return all(
            parent in values and self._is_one_of(parent, values[parent], wanted)
            for parent, wanted in self.domains[name].when.items()
        )

    def _is_one_of(self, name: str, value: Scalar, wanted: Scalar | tuple[Scalar, ...]) -> bool:
        snap = self.domains[name].snap
        point = snap(value)
        return point is not None and any(point == snap(one) for one in _listed(wanted))

    def active(self, values: Mapping[str, Scalar]) -> list[str]:
        """Returns the names in use at a point, parents first; ignores values of inactive ones."""
        # A parent that is itself inactive must not switch its children on, whatever value it was
        # given; so only values of active names are looked at, parents first.
        kept: Point = {}
        for name in self.domains:
            if name in values and self.is_active(name, kept):
                kept[name] = values[name]
        return [name for name in self.domains if self.is_active(name, kept)]

    def snap(self, values: Mapping[str, Scalar]) -> Point | None:
        """Returns the point of this space that `values` are, rounding aside; None when they are
        none of it."""
        if self.problem(values) is not None:
            return None
        snapped = ((name, self.domains[name].snap(value)) for name, value in values.items())
        return {name: value for name, value in snapped if value is not None}

    def problem(self, values: Mapping[str, Scalar]) -> str | None:
        """Returns why `values` are no point of this space, or None when they are one: exactly the
        active names, each with an allowed value."""
        active = self.active(values)
        for name, value in values.items():
            if name not in self.domains:
                return f"'{name}' is not searched"
            if name not in active:
                return f"'{name}' is used only when {self._condition_text(name)}"
            if not self.domains[name].contains(value):
                return f"{name}={value} is not {self.domains[name].text()}"
        missing = [name for name in active if name not in values]
        return f"'{missing[0]}' is missing" if missing else None

    def contains(self, values: Mapping[str, Scalar]) -> bool:
        """Returns whether `values` are a point of this space."""
        return self.problem(values) is None

    def size(self, points_per_range: int | None = None) -> int | None:
        """Returns the number of points, each counted once; None when there is a continuum of them.

        With `points_per_range` it is the number of points that `enumerate` yields. In a space whose
        conditions have more than `MOST_BRANCHES` branches it is at least so many.
        """
        sizes = [domain.size() for domain in self.domains.values()]
        if points_per_range is None and None in sizes:
            return None
        return _Counter(self, points_per_range).count()

    def enumerate(self, points_per_range: int) -> Iterator[Point]:
        """Yields every point of the grid once: all values of a list, and of a range
        `points_per_range` evenly spread ones (in the logarithm under `log`; one is the middle)."""
        return self._walk(list(self.domains), points_per_range, {})

    def draw(self, rng: random.Random) -> Point:
        """Returns a random point: each active name uniform over its domain."""
        values: Point = {}
        for name, domain in self.domains.items():
            if self.is_active(name, values):
                values[name] = domain.draw(rng)
        return values

    def suggest(self, trial: Any) -> Point:
        """Returns the point that the sampler of an `optuna.trial.Trial` picks, asking for active
        names only. Asked again, the same trial gives the same point."""
        # Parents come first in `domains`, so their values are known when a child is decided on. The
        # order is fixed, since a seeded sampler gives other values when it is asked in another one.
        values: Point = {}
        for name, domain in self.domains.items():
            if self.is_active(name, values):
                values[name] = domain.suggest(trial, name)
        return values

    def distributions(self, values: Mapping[str, Scalar]) -> dict[str, Any]:
        """Returns the Optuna distribution of each name of the point `values`."""
        return {name: self.domains[name].distribution() for name in values}

    def explain(self) -> list[dict[str, str]]:
        """Returns one row a name, parents first: `name`, `domain`, `condition` in words, or ""."""
        return [
            {"name": name, "domain": domain.text(), "condition": self._condition_text(name)}
            for name, domain in self.domains.items()
        ]

    def to_search(self) -> dict[str, Any]:
        """Returns the space as the `search` section of a sweep file: `parse` takes it back."""
        return {
            name: domain.model_dump(mode="json", exclude_defaults=True)
            for name, domain in self.domains.items()
        }

    def _points(self, name: str, points_per_range: int) -> list[Scalar]:
        return self.domains[name].points(points_per_range)

    def _walk(self, names: list[str], points_per_range: int, chosen: Point) -> Iterator[Point]:
        """Yields `chosen` with each combination of values of the active ones among `names`."""
        if not names:
            yield chosen
        elif not self.is_active(names[0], chosen):
            yield from self._walk(names[1:], points_per_range, chosen)
        else:
            for value in self._points(names[0], points_per_range):
                yield from self._walk(names[1:], points_per_range, chosen | {names[0]: value})

    def _condition_text(self, name: str) -> str:
        return " and ".join(
            f"{parent} is {' or '.join(str(value) for value in _listed(wanted))}"
            for parent, wanted in self.domains[name].when.items()
        )


class _Counter:
    """Counts the points of a space by its conditions, and never walks the points themselves."""

    # All values of a parent that meet the same conditions are one branch, taken as often as there
    # are of them; those that no condition names meet none. What follows a branch depends on the
    # parents that a later name asks about, and is counted once for each of their combinations.
    def __init__(self, space: SearchSpace, points_per_range: int | None) -> None:
        self.space = space
        self.points_per_range = points_per_range
        self.names = space.names
        self.named: dict[str, list[tuple[Scalar, ...]]] = {}  # parent: what each condition names
        self.last_use: dict[str, int] = {}  # parent: index of the last name that asks about it
        for index, domain in enumerate(space.domains.values()):
            for parent, wanted in domain.when.items():
                self.named.setdefault(parent, []).append(_listed(wanted))
                self.last_use[parent] = index
        self.counted: dict[tuple[int, frozenset[tuple[str, Scalar | None]]], int] = {}

    def count(self, index: int = 0, chosen: Mapping[str, Any] | None = None) -> int:
        """Returns the number of ways to go on from the name at `index`, beside the values that were
        `chosen` for the parents before it."""
        if index == len(self.names):
            return 1
        asked = {
            parent: value
            for parent, value in (chosen or {}).items()
            if self.last_use[parent] >= index
        }
        key = (index, frozenset(asked.items()))
        if key not in self.counted:
            if len(self.counted) >= MOST_BRANCHES:
                return self._at_least(index)
            self.counted[key] = self._count(index, asked)
        return self.counted[key]

    def _count(self, index: int, chosen: Mapping[str, Any]) -> int:
        name = self.names[index]
        if not self.space.is_active(name, chosen):
            return self.count(index + 1, chosen)
        if name not in self.named:
            return self._size(name) * self.count(index + 1, chosen)
        return sum(
            times * self.count(index + 1, {**chosen, name: value})
            for value, times in self._branches(name)
        )

    def _branches(self, name: str) -> list[tuple[Scalar | None, int]]:
        """Returns one value of each branch of a parent, None for what no condition names, and how
        many values the branch has."""
        domain = self.space.domains[name]
        points = None if self.points_per_range is None else domain.points(self.points_per_range)
        conditions = [{domain.snap(value) for value in wanted} for wanted in self.named[name]]
        named = set[Scalar | None]().union(*conditions)
        branches: dict[tuple[bool, ...], list[Scalar | None]] = {}
        for value in named if points is None else named.intersection(points):
            met = tuple(value in condition for condition in conditions)
            branches.setdefault(met, []).append(value)
        others = self._size(name) - sum(map(len, branches.values()))
        found = [(values[0], len(values)) for values in branches.values()]
        return [*found, (None, others)] if others else found

    def _at_least(self, index: int) -> int:
        """What the names without a condition, which are always active, give together."""
        always = (name for name in self.names[index:] if not self.space.domains[name].when)
        return math.prod(map(self._size, always))

    def _size(self, name: str) -> int:
        domain = self.space.domains[name]
        if self.points_per_range is None:
            return domain.size() or 1
        return len(domain.points(self.points_per_range))


def _listed(wanted: Scalar | tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    return wanted if isinstance(wanted, tuple) else (wanted,)


def _check_condition(
    name: str, parent: str, wanted: tuple[Scalar, ...], domains: Mapping[str, Domain]
) -> None:
    place = f"search.{name}: when"
    others = [other for other in domains if other != name]
    if parent not in others:
        raise ValueError(
            f"{place} must name another searched hyperparameter "
            f"({', '.join(others) or 'there is none'}), "
            f"but got '{parent}'.{nearest(parent, others)}"
        )
    domain = domains[parent]
    if domain.size() is None:
        raise ValueError(
            f"{place} must name a hyperparameter with separate values, but got '{parent}', "
            f"which is {domain.text()}. Search it as choice, int or with a step."
        )
    for value in wanted:
        if not domain.contains(value):
            raise ValueError(
                f"{place} must give a value that '{parent}' can take ({domain.text()}), "
                f"but got {value!r:.80}.{_nearest_value(value, domain)}"
            )


def _nearest_value(value: Scalar, domain: Domain) -> str:
    listed = domain.points(1) if isinstance(domain, Choice) else []
    return nearest(str(value), [str(allowed) for allowed in listed])


def _parents_first(domains: Mapping[str, Domain]) -> list[str]:
    """Returns the names in the order of the file, but each after those it depends on."""
    try:
        order = TopologicalSorter({name: set(d.when) for name, d in domains.items()})
        order.prepare()
    except CycleError as error:
        raise ValueError(
            "search: conditions must not depend on each other in a circle, "
            f"but got {' -> '.join(error.args[1])}. Remove one of these `when`."
        ) from None
    # TopologicalSorter found that there is no circle, but its order is not that of the file. Taking
    # the first name whose parents are there already keeps the file's order wherever it can.
    placed: list[str] = []
    while len(placed) < len(domains):
        placed.append(
            next(
                name
                for name, domain in domains.items()
                if name not in placed and all(parent in placed for parent in domain.when)
            )
        )
    return placed
