"""A recorded trial trained again here, or written to a folder that reproduces it elsewhere."""

from collections.abc import Callable
from pathlib import Path

from service.actions.record import open_record
from service.errors import PlanError
from service.rerun.export import Exported, export
from service.rerun.rerun import RerunRequest, RerunResult, rerun
from service.workspace import Workspace

__all__ = ["RerunRequest", "export_trial", "rerun_trial"]

DEVICES = (None, "cpu", "cuda")


def rerun_trial(
    request: RerunRequest,
    workspace: Workspace,
    *,
    on_line: Callable[[str], None] = lambda line: None,
) -> RerunResult:
    """Trains the trial again and returns whether its numbers are the same. on_line: takes each line
    that the trial writes.

    Raises `TrackingError` for a run that cannot be read, `PlanError` for a device, input, image or
    Docker engine that is not there, `TrialError` when the trial fails.
    """
    if request.device not in DEVICES:
        raise PlanError(f"--device: must be cpu or cuda, but got '{request.device}'.")
    return rerun(request, open_record(workspace), home=workspace.home, on_line=on_line)


def export_trial(run: str, workspace: Workspace, *, folder: Path, merge: bool = False) -> Exported:
    """Writes the trial with its student, its inputs and a README into `folder`, which must be new
    or empty. Raises what `service.rerun.export.export` raises."""
    return export(run, open_record(workspace), folder, merge=merge)
