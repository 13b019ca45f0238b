"""Which trials a plan has: the controls, and as many as the sampler can give. Pure."""

from collections.abc import Mapping
from typing import Any

from service.spec.document import SweepSpec
from trainers.trial.strict import Strict

NO_TRIAL_LIMIT = 10_000
DEFAULT_TRIALS = 40
HARD_LOSS = "hard loss only"


class ControlTrial(Strict):
    """A trial that every other one is compared with; `values` are its hyperparameters."""

    label: str
    values: dict[str, Any]


def control_trials(spec: SweepSpec) -> tuple[ControlTrial, ...]:
    """Returns the trials that show what distilling, and its temperature, are worth."""
    if spec.controls == "none":
        return ()
    # What the spec's loss section gives must not leak into a control; None stands for not given.
    weights = {"hard_weight", "soft_weight", "allow_free_logit_scale"}
    if "sequence_term" in spec.given_loss() and spec.given().get("soft_weight") == 0:
        weights.remove("soft_weight")  # the term is all of the loss, and no control has one
    base: dict[str, Any] = dict.fromkeys(sorted(spec.given_loss() - weights))
    # They learn from the data's text: what a student gains by its own is compared with them.
    base |= dict.fromkeys(sorted(spec.text.model_fields_set))
    base |= {"divergence": "forward_kl", "policy": "fixed"}
    hard_only = {"tau": 1.0, "hard_weight": 1.0, "soft_weight": 0.0}
    values_of = {HARD_LOSS: base | hard_only} | {
        f"forward KL, tau {tau:g}": base | {"tau": tau} for tau in (1.0, 2.0, 4.0)
    }
    return tuple(
        ControlTrial(label=label, values=_point_like(spec, values) or values)
        for label, values in values_of.items()
    )


def _point_like(spec: SweepSpec, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the point of the search that the sampler is sure to give and that trains exactly as
    `values` do, else None. As a control it stands in for that point, which is then not tried
    twice."""
    point = spec.sampler.point_at(spec.search, spec.trial_config(values).model_dump())
    if point is None:
        return None
    # The grid's own value may differ from a control's by its rounding.
    rounded = {name: value for name, value in point.items() if name in values}
    is_alike = spec.trial_config(point) == spec.trial_config({**values, **rounded})
    return point if is_alike else None


def count_trials(spec: SweepSpec) -> int:
    """Returns the number of trials without the controls; never more than the sampler can
    give. A time budget alone gives a number that is not reached."""
    limit = DEFAULT_TRIALS if spec.time_budget_s is None else NO_TRIAL_LIMIT
    points = points_left(spec)
    if points is not None:
        return min(points, spec.trials or points)
    return spec.trials or limit


def points_left(spec: SweepSpec) -> int | None:
    """Returns how many different trials the sampler can give besides the controls; None when there
    is no end."""
    space = spec.search
    # A control that stands in for a point of the search takes that point from the sampler.
    points = spec.sampler.num_points(space)
    if points is None:
        return None
    values = [control.values for control in control_trials(spec)]
    return points - sum(spec.sampler.point_at(space, one) == one for one in values)
