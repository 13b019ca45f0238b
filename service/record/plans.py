"""The plan that a sweep was recorded with, read back."""

from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from service.errors import TrackingError
from service.plan.plan import SweepPlan
from service.record.runs import Runs

PLAN = "plan.json"


def read_plan(runs: Runs, sweep: str) -> SweepPlan:
    """Returns the plan of a recorded sweep (id, beginning, name or `latest`). Raises
    `TrackingError` when there is none, or it was written by another version."""
    found = runs.resolve_sweep(sweep)
    with TemporaryDirectory(prefix="kd-plan-") as folder:
        path = runs.download(found.run_id, PLAN, Path(folder))
        try:
            plan = SweepPlan.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the document"
            raise TrackingError(
                f"sweep {found.sweep_id}: its {PLAN} must be one of this version, but got: "
                f"{field}: {first['msg']}. Use the version that began it."
            ) from error
    if plan.sweep_id != found.sweep_id:
        raise TrackingError(
            f"sweep {found.sweep_id}: its {PLAN} must be its own, but got that of "
            f"'{plan.sweep_id}'. Was the artifact replaced?"
        )
    return plan
