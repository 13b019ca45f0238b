"""Points of a search that train exactly alike, by the catalogue's twins. Pure."""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from search_spaces.domains import Choice, Domain, Fixed
from search_spaces.numbers import Scalar
from search_spaces.samplers import Grid
from search_spaces.space import SearchSpace
from service.spec.document import SweepSpec
from trainers.trial.catalogue import DIVERGENCES, POLICIES, POLICY_TWINS, TWINS
from trainers.trial.config import TrialConfig

Rows = tuple[tuple[str, Mapping[str, object], str], ...]
FAMILIES: Mapping[str, tuple[Rows, Mapping[Any, Any]]] = {
    "divergence": (TWINS, DIVERGENCES),
    "policy": (POLICY_TWINS, POLICIES),
}
# The names whose values decide whether two points are twins.
DECISIVE = {*FAMILIES, "tau"} | {name for _, given, _ in TWINS + POLICY_TWINS for name in given}
MOST_POINTS = 5_000


def duplicates(spec: SweepSpec) -> Iterator[str]:
    """Yields one sentence for each two settings that give a point of the search, or a study's cell,
    twice."""
    points = spec.points() if spec.is_study else _sure_points(spec, spec.search)
    # Many points may share one pair of settings, at every value of what else is searched.
    found: set[tuple[str, ...]] = set()
    for plain, settings in _alike(map(spec.trial_config, points)):
        others = sorted(settings - {plain})
        if plain in settings:
            found |= {(plain, other) for other in others}
        elif len(others) > 1:
            found.add((plain, *others))
    for plain, *names in sorted(found):
        yield _sentence(plain, names)


def _sure_points(spec: SweepSpec, space: SearchSpace) -> Iterator[Mapping[str, Any]]:
    """Yields points of the search that can be twins; none where they are too many to look at: of a
    single name, before its values are listed, or of all together."""
    if any(_num_values(spec, space.domains[name]) > MOST_POINTS for name in _decisive(space)):
        return
    points = _decisive_points(spec, space)
    if (points.size() or 0) <= MOST_POINTS:
        yield from points.enumerate(1)


def _alike(configs: Iterable[TrialConfig]) -> list[tuple[str, set[str]]]:
    """Returns, for each gradient and family, its plainest member and how the configs have it."""
    # Configs with one gradient become equal fields when they are reduced, so that the fields can be
    # the key; a set of two settings under one key is then a point that is tried twice.
    found: defaultdict[tuple[str, Any], set[str]] = defaultdict(set)
    for config in configs:
        if config.soft_weight > 0:  # else the divergence plays no part at all
            fields, settings = _reduced(config)
            for family in FAMILIES:
                plain = str(fields[family])
                found[plain, tuple(fields.items())].add(settings.get(family, plain))
    return [(plain, settings) for (plain, _), settings in found.items()]


def _sentence(plain: str, settings: list[str]) -> str:
    others = " and ".join(settings)
    verb = "has" if len(settings) == 1 else "have each"
    return (
        f"{others} {verb} exactly the gradient of {plain}, so that they are one point, tried more "
        "than once: keep one of them."
    )


def _reduced(config: TrialConfig) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the fields of the plainest trial with this one's gradient, and of each family that
    was another one there, how the config has it in words."""
    fields: dict[str, Any] = dict(config)
    settings: dict[str, str] = {}
    for family, (rows, table) in FAMILIES.items():
        for name, given, other in rows:
            if fields[family] != name or any(fields[one] != given[one] for one in given):
                continue
            words = " and ".join(f"{one} {value}" for one, value in given.items())
            settings[family] = f"{name} with {words}"
            # The plain row does not have these parameters; left in, they would keep twins apart.
            idle = set(table[name].parameters) - set(table[other].parameters)
            fields |= dict.fromkeys(idle) | {family: other}
    if POLICIES[fields["policy"]].without_temperature and fields["tau"] == 1:
        fields["scaling"] = None  # every power of 1 is 1
    return fields, settings


def _decisive_points(spec: SweepSpec, space: SearchSpace) -> SearchSpace:
    """Returns the space cut down to what can make twins: of decisive names and of parents the
    values that the sweep is sure to try, of every other name one value."""
    decisive = _decisive(space)
    return SearchSpace(
        domains={
            name: Choice(
                choice=tuple(_values(spec, domain) if name in decisive else domain.points(1)[:1]),
                when=domain.when,
            )
            for name, domain in space.domains.items()
        }
    )


def _decisive(space: SearchSpace) -> set[str]:
    parents = {parent for domain in space.domains.values() for parent in domain.when}
    return (DECISIVE | parents) & space.domains.keys()


def _num_values(spec: SweepSpec, domain: Domain) -> int:
    """Returns the length of `_values`, or more."""
    if isinstance(spec.sampler, Grid) and not isinstance(domain, Choice | Fixed):
        return spec.sampler.points_per_range
    return domain.size() or 1


def _values(spec: SweepSpec, domain: Domain) -> list[Scalar]:
    if isinstance(spec.sampler, Grid):
        return domain.points(spec.sampler.points_per_range)
    size = domain.size()
    # Of a continuum, one value inside: its ends are drawn by chance only.
    return domain.points(size) if size is not None else [domain.draw(random.Random(0))]
