"""Which rho a sweep should search: the teacher's entropies on a sample of its data, as a table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.errors import PlanError
from service.home import pictures_folder
from service.plan.plan import SweepPlan
from service.results.rho_picture import rho_page
from service.workspace import Workspace
from trainers.files.store import write_text
from trainers.tasks import table

if TYPE_CHECKING:
    from trainers.losses.rho import RhoRange

NUM_POSITIONS = 512


@dataclass(frozen=True)
class RhoReport:
    """The proposed range, the tables it comes from, and the picture of both."""

    found: "RhoRange"
    picture: Path

    def rows(self) -> list[dict[str, Any]]:
        """Returns one row a setting; `c` is rho / ln V, entropies are in nats."""
        rows = [("cist", row) for row in self.found.by_rho]
        rows += [("fixed", row) for row in self.found.by_tau]
        return [
            {
                "policy": policy,
                "tau": row.setting if policy == "fixed" else None,
                "rho": row.rho,
                "c": row.setting if policy == "cist" else None,
                "entropy_mean": row.mean,
                "entropy_std": row.std,
                "share_of_log_vocab": row.mean / self.found.log_vocab,
            }
            for policy, row in rows
        ]

    def to_json(self) -> dict[str, Any]:
        """Returns the report as one JSON object."""
        found = self.found
        return {
            "num_positions": found.num_positions,
            "log_vocab": found.log_vocab,
            "rho": [found.low, found.high],
            "rho_per_log_vocab": [found.low_per_log_vocab, found.high_per_log_vocab],
            "open_ends": [row.setting for row in found.open_ends()],
            "rows": self.rows(),
            "picture": str(self.picture),
        }


def propose_rho(
    plan: SweepPlan,
    workspace: Workspace,
    *,
    on_progress: Callable[[str, float], None] = lambda stage, share: None,
) -> RhoReport:
    """Prepares the teacher and data where they are not there yet, asks the teacher on a sample, and
    writes the picture. on_progress: called with a stage and the share of it that is done, 0 to 1.
    Raises `PlanError` when an input is wrong."""
    from trainers.losses.rho import rho_range
    from trainers.preparing.prepare import prepare
    from trainers.teachers.sample import teacher_logits

    home = workspace.home
    try:
        # Of the teacher nothing but its logits is asked here.
        request = plan.spec.prepare_request().model_copy(update={"scored_as": None})
        prepared = prepare(request, home, on_progress)
    except ValueError as error:
        raise PlanError(str(error)) from error
    trust = plan.spec.teacher.trust_remote_code
    task = table.task_named(plan.spec.task)
    found = rho_range(teacher_logits(prepared, task, num_positions=NUM_POSITIONS, trust=trust))
    path = pictures_folder(home) / f"{plan.sweep_id}-rho.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, rho_page(found, plan.spec.name))
    return RhoReport(found, path)
