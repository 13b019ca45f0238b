"""The dashboard of a Ray cluster: who may talk to it, and what its nodes have together."""

import logging
from typing import Any

from service.errors import JobError, PlanError
from service.plan.plan import SweepPlan
from service.plan.resources import Resources
from service.workspace import Cluster

LARGEST_CLUSTER = 10_000  # nodes; Ray's own limit of a list is a hundred
# They tell of each package and connection, between the lines that a user asked for.
TALKATIVE = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
NO_PORT = -1  # what an agent reports that could not listen
AGENT_PORT = 52365  # what Ray gives every agent


def connect(cluster: Cluster) -> Any:
    """Returns a client of the cluster's Jobs API. Raises `JobError` when the address is no URL,
    nobody answers, the token is refused, or its Ray is another version than this one."""
    import ray
    from ray.job_submission import JobSubmissionClient

    address = cluster.address
    if not address.startswith(("http://", "https://")):
        raise JobError(
            "cluster: the address of Ray's dashboard must start with http:// or https://, but got "
            f"'{address}'. It is usually http://HEAD:8265."
        )
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        client = JobSubmissionClient(address, headers=_headers(cluster))
        # Asked for by hand: the client itself only checks that the version there is not ancient.
        remote = client._do_request("GET", "/api/version").json()["ray_version"]
    except ConnectionError as error:
        raise JobError(
            f"cluster: a Ray dashboard must answer at {address}, but got: {error} Correct the "
            "address, or start it: ray start --head --dashboard-host 0.0.0.0."
        ) from error
    except Exception as error:  # Ray raises whatever the server answers as RuntimeError and kin
        raise JobError(_refused(address, str(error))) from error
    if remote != ray.__version__:
        raise JobError(
            f"cluster: Ray must be the same version here and there, but got {ray.__version__} here "
            f"and {remote} at {address}. Install ray[default]=={remote} here, or use an image with "
            f"{ray.__version__} there."
        )
    return client


def _headers(cluster: Cluster) -> dict[str, str]:
    """Returns the headers with the cluster's token; without one Ray adds what it has itself."""
    return {} if cluster.token is None else {"Authorization": f"Bearer {cluster.token}"}


def _refused(address: str, text: str) -> str:
    lowered = text.lower()
    if "401" in text or "403" in text or "authenticat" in lowered or "token" in lowered:
        return (
            f"cluster: {address} asks for its token, but got none or a wrong one. Set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to the cluster's."
        )
    return f"cluster: {address} must be a Ray dashboard, but got: {text.strip()}"


def check_takes_jobs(client: Any) -> None:
    """Raises `JobError` when the head's agent, which starts jobs, has no port: Ray would wait for
    it a minute at each job, and never say why."""
    for node in _summaries(client):
        raylet = node.get("raylet", {})
        # None while it only starts; then Ray is asked again, see `job.submit`.
        if raylet.get("isHeadNode") and raylet.get("dashboardAgentListenPort") == NO_PORT:
            raise JobError(
                f"cluster: the head {raylet.get('nodeManagerHostname')} must have a port for the "
                f"agent that starts its jobs, but got none: {AGENT_PORT}, or the one it was given, "
                "was taken when it started. Where several Rays run on one machine, start each with "
                "a free one: ray start --head --dashboard-agent-listen-port PORT …"
            )


def _summaries(client: Any) -> list[dict[str, Any]]:
    """Returns what the dashboard says of each node; nothing where it says it in another way."""
    try:
        answer = client._do_request("GET", "/nodes?view=summary").json()
        return [node for node in answer["data"]["summary"] if isinstance(node, dict)]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def cluster_resources(cluster: Cluster) -> Resources:
    """Returns what the living nodes of the cluster have together."""
    nodes = _nodes(cluster)
    return Resources(
        num_cpus=sum(node.get("CPU", 0.0) for node in nodes),
        num_gpus=sum(node.get("GPU", 0.0) for node in nodes),
        memory=int(sum(node.get("memory", 0.0) for node in nodes)) or None,  # not every Ray says it
    )


def check_workers_fit(plan: SweepPlan, cluster: Cluster) -> None:
    """Raises `PlanError` when no single node can hold one worker of the plan."""
    needs = {"CPU": plan.cpus_per_worker, "GPU": plan.gpus_per_worker}
    nodes = _nodes(cluster)
    if any(all(node.get(name, 0.0) >= n for name, n in needs.items()) for node in nodes):
        return
    largest = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in needs}
    raise PlanError(
        f"resources: a node must hold a worker of {needs['CPU']:g} CPUs and {needs['GPU']:g} GPUs, "
        f"but got nodes of at most {largest['CPU']:g} CPUs and {largest['GPU']:g} GPUs. Lower "
        "cpus_per_worker or gpus_per_worker, or add larger nodes."
    )


def _nodes(cluster: Cluster) -> list[dict[str, float]]:
    from ray.util.state import StateApiClient
    from ray.util.state.common import ListApiOptions, StateResource

    # `list_nodes` of the same module takes no headers, and so no token of a workspace.
    client = StateApiClient(cluster.address, headers=_headers(cluster))
    options = ListApiOptions(limit=LARGEST_CLUSTER)
    found = client.list(StateResource.NODES, options=options, raise_on_missing_output=True)
    return [dict(node.resources_total) for node in found if node.state == "ALIVE"]
