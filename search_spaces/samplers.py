"""The samplers by `kind`: their options, what each can do with a space, and how each is built.

`build` loads Optuna; nothing else here does, so that a plan is checked at once.
"""

import hashlib
import warnings
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from search_spaces.domains import Float, Int
from search_spaces.numbers import snap_to
from search_spaces.space import Point, SearchSpace

Startup = Annotated[
    int, Field(ge=1, le=10**6, description="random trials before the model is asked")
]


def _optuna() -> Any:
    import optuna

    return optuna


class _Sampler(BaseModel):
    """What every sampler answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def check(self, space: SearchSpace, num_objectives: int = 1) -> list[str]:
        """Returns one warning a limit that this space meets; raises `ValueError` where the sampler
        cannot do its work at all."""
        return []

    def num_points(self, space: SearchSpace) -> int | None:
        """Returns how many different trials the sampler can give; None when there is no end."""
        return None

    def point_at(self, space: SearchSpace, values: Mapping[str, Any]) -> Point | None:
        """Returns the point with these values (those of inactive names aside) where the sampler is
        sure to give it, else None."""
        return None

    def build(self, space: SearchSpace, draw: int = 0) -> Any:
        """Returns an `optuna.samplers.BaseSampler` whose randomness is a function of its seed and
        of `draw`, the number of trials drawn before: a resumed study repeats nothing."""
        raise NotImplementedError


class _Seeded(_Sampler):
    """Samplers that draw."""

    seed: Annotated[int, Field(ge=0, le=2**63 - 1, description="fixes every draw")] = 0

    def _seed_of(self, draw: int) -> int:
        # Hashed, so that neighbouring seeds and draws give unrelated generators; not by `hash`,
        # which differs from process to process.
        digest = hashlib.blake2b(f"{self.seed}/{draw}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big")


class Tpe(_Seeded):
    """Tree-structured Parzen estimator (Bergstra et al. 2011), multivariate, a model for each group
    of names that occur together, so conditions are modelled; running trials count as poor ones."""

    kind: Literal["tpe"] = "tpe"
    num_startup: Startup = 10

    def build(self, space: SearchSpace, draw: int = 0) -> Any:
        """Returns the Optuna sampler; see the base class."""
        optuna = _optuna()
        with warnings.catch_warnings():
            # `group` is marked experimental; it is the only option that models conditions. With
            # `constant_liar`, trials that run beside each other are not all proposed at one place.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                n_startup_trials=self.num_startup,
                seed=self._seed_of(draw),
                multivariate=True,
                group=True,
                constant_liar=True,
            )


class Random(_Seeded):
    """Independent uniform draws."""

    kind: Literal["random"] = "random"

    def build(self, space: SearchSpace, draw: int = 0) -> Any:
        """Returns the Optuna sampler; see the base class."""
        return _optuna().samplers.RandomSampler(seed=self._seed_of(draw))


class Grid(_Sampler):
    """Every point of the space once, ranges at `points_per_range` values; nothing is random."""

    kind: Literal["grid"] = "grid"
    points_per_range: Annotated[
        int, Field(ge=1, le=10_000, description="evenly spread values taken from each range")
    ] = 5

    def num_points(self, space: SearchSpace) -> int | None:
        """Returns the number of points of the grid."""
        return space.size(self.points_per_range)

    def point_at(self, space: SearchSpace, values: Mapping[str, Any]) -> Point | None:
        """Returns the point of the grid with these values, None where the grid has none."""
        point: Point = {}
        # `values` may be a complete config; what its own parents switch off is no part of a point.
        for name in space.active(values):
            points = space.domains[name].points(self.points_per_range)
            found = snap_to(points, values.get(name))
            if found is None:
                return None
            point[name] = found
        return point

    def build(self, space: SearchSpace, draw: int = 0) -> Any:
        """Returns the Optuna sampler; see the base class."""
        from search_spaces.grid import GridSampler

        return GridSampler(space, self.points_per_range)


class _Unconditional(_Seeded):
    """Samplers whose model covers only the names that every trial has."""

    kind: str

    def check(self, space: SearchSpace, num_objectives: int = 1) -> list[str]:
        """Returns a warning with the names that would be drawn independently of all others; raises
        `ValueError` when the model would cover nothing."""
        searched = [name for name, domain in space.domains.items() if domain.size() != 1]
        modelled = [name for name in searched if self._models(space, name)]
        if not modelled:
            raise ValueError(
                f"sampler: {self.kind} models {self._scope()} only, "
                f"but got a space with none ({', '.join(searched)}). Use tpe, random or grid."
            )
        left = [name for name in searched if name not in modelled]
        if not left:
            return []
        return [
            f"sampler: {self.kind} models {self._scope()} only; "
            f"{', '.join(left)} would be drawn independently, at random"
        ]

    def _models(self, space: SearchSpace, name: str) -> bool:
        return not space.domains[name].when

    def _scope(self) -> str:
        return "hyperparameters without a condition"


class Gp(_Unconditional):
    """Gaussian process with log expected improvement; learns from completed trials only."""

    kind: Literal["gp"] = "gp"
    num_startup: Startup = 10

    def build(self, space: SearchSpace, draw: int = 0) -> Any:
        """Returns the Optuna sampler; see the base class."""
        return _optuna().samplers.GPSampler(
            seed=self._seed_of(draw),
            n_startup_trials=self.num_startup,
            warn_independent_sampling=False,
        )


class CmaEs(_Unconditional):
    """Covariance matrix adaptation (Hansen 2016) of numbers; learns from completed trials only."""

    kind: Literal["cmaes"] = "cmaes"
    num_startup: Startup = 1

    def check(self, space: SearchSpace, num_objectives: int = 1) -> list[str]:
        """As the base class; raises `ValueError` for several objectives too."""
        if num_objectives != 1:
            raise ValueError(
                f"sampler: cmaes must have one objective, but got {num_objectives}. "
                "Use nsgaii or tpe."
            )
        return super().check(space, num_objectives)

    def build(self, space: SearchSpace, draw: int = 0) -> Any:
        """Returns the Optuna sampler; see the base class."""
        return _optuna().samplers.CmaEsSampler(
            seed=self._seed_of(draw),
            n_startup_trials=self.num_startup,
            warn_independent_sampling=False,
        )

    def _models(self, space: SearchSpace, name: str) -> bool:
        return super()._models(space, name) and isinstance(space.domains[name], Float | Int)

    def _scope(self) -> str:
        return "float and int hyperparameters without a condition"


class NsgaII(_Unconditional):
    """NSGA-II (Deb et al. 2002) for two or more objectives; learns from completed trials only."""

    kind: Literal["nsgaii"] = "nsgaii"
    population_size: Annotated[
        int, Field(ge=2, le=10**6, description="trials of one generation")
    ] = 20

    def check(self, space: SearchSpace, num_objectives: int = 1) -> list[str]:
        """As the base class; raises `ValueError` for a single objective too."""
        if num_objectives < 2:
            raise ValueError(
                f"sampler: nsgaii must have two objectives or more, but got {num_objectives}. "
                "Name another objective, or use tpe."
            )
        return super().check(space, num_objectives)

    def build(self, space: SearchSpace, draw: int = 0) -> Any:
        """Returns the Optuna sampler; see the base class."""
        return _optuna().samplers.NSGAIISampler(
            seed=self._seed_of(draw), population_size=self.population_size
        )


Sampler = Annotated[
    Tpe | Random | Grid | Gp | CmaEs | NsgaII,
    Field(discriminator="kind", description="how the next trial is picked"),
]
