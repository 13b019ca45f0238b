"""How MLflow's pages show a sweep: a view that is kept with its experiment, as MLflow's own
“Share view” keeps one, and the address that opens it. Pure."""

import json
from typing import TYPE_CHECKING

from service.record import tags
from service.record.metric_names import logged_name

if TYPE_CHECKING:
    from service.plan.plan import SweepPlan

VIEW = "mlflow.sharedViewState."  # begins the name of an experiment's tag that holds a view
LONGEST_VIEW = 5000  # of characters, in such a tag
# MLflow's pages open on what they have for language model calls, unless an address says this.
TRAINING = "workflowType=machine_learning"


def view_tag(plan: "SweepPlan") -> tuple[str, str] | None:
    """Returns name and value of the tag that holds the sweep's view: its trials, the best first,
    with what was searched and measured. None where that is too long to be kept."""
    # Not above: whatever prints an address would load all tasks.
    from trainers.tasks import table

    sweep = f"tags.`{tags.SWEEP_ID}` = '{plan.sweep_id}'"
    first = plan.spec.objective[0]
    metrics = dict.fromkeys((first.metric, *table.beside_rankings(plan.spec.task)))
    columns = [
        f"metrics.`{tags.OBJECTIVE}`",
        *(f"params.`{name}`" for name in plan.spec.tried_names()),
        f"tags.`{tags.STATE}`",
        *(f"metrics.`{logged_name(name)}`" for name in metrics),
        "attributes.`Models`",
    ]
    view = {
        "searchFilter": f"{sweep} and tags.`{tags.KIND}` = '{tags.KIND_TRIAL}'",
        "orderByKey": f"metrics.`{tags.OBJECTIVE}`",
        "orderByAsc": first.direction == "minimize",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "FIRST_20_RUNS",  # in charts
    }
    text = json.dumps(view)
    return (VIEW + plan.sweep_id, text) if len(text) <= LONGEST_VIEW else None


def view_address(server: str, experiment_id: str, sweep_id: str) -> str:
    """Returns the address of the sweep's trials in MLflow's pages at `server`."""
    runs = f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs"
    return f"{runs}?viewStateShareKey={sweep_id}&{TRAINING}"
