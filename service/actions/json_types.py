"""What each command prints with `--json`, as types: the schemas that `kd-sweep schema --of COMMAND`
shows are made of them, and a test holds every command's answer to them."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, TypeAdapter

from service.actions.json_caches import Cache, CacheDetails, VerifiedCache
from service.actions.json_document import Document, Number
from service.actions.json_lines import Event, Line
from service.actions.json_service import OF_THE_SERVICE
from service.actions.json_significance import Significance
from service.plan.plan import SweepPlan
from service.report.page import Page
from service.spec.document import SweepSpec
from service.states import Role, TrialState
from trainers.trial.metrics import Direction


class Objective(Document):
    """What a sweep optimises."""

    metric: str
    direction: Direction | Literal[""]


class Sweep(Document):
    """A recorded sweep. study: its size, null of a search; confirms: the sweep whose best configs
    it trains again; duration_s: null while it runs."""

    sweep_id: str
    sweep_name: str
    run_id: str
    state: TrialState
    objective: Objective
    num_trials: int
    study: dict[Literal["cells", "seeds"], int] | None
    confirms: str | None
    started_at: str
    duration_s: Number
    facts: dict[str, Any]


class Trial(Document):
    """A recorded trial: metrics are the last values, null where JSON has no word for them; cell,
    role: of a controlled study's trial, which cell it is of, and whether it only tunes."""

    sweep_id: str
    sweep_name: str
    trial: int
    attempt: int
    run_id: str
    state: TrialState
    label: str | None
    cell: str | None
    role: Role | None
    hyperparameters: dict[str, Any]
    metrics: dict[str, Number]
    objective: Number
    started_at: str
    duration_s: Number


class Ranked(Trial):
    """A trial of `best`: the metric that it is ranked by, its value (over seeds the mean, with an
    interval), the trials that share its config, the group that was asked for, with `--registered`
    what its student is registered as, and what was found of the whole sweep, in sentences."""

    metric: str
    direction: Direction | None
    value: Number
    interval: tuple[float, float] | None
    trials: list[int]
    group: str | None
    registered: list[str]
    warning: str | None
    verdict: list[str]


class Pairing(Document):
    """Two configs compared by their shared seeds. p_holm: corrected for all that are compared with
    `first` under this metric."""

    metric: str
    first: str
    second: str
    num_pairs: int
    mean_difference: Number
    low: Number
    high: Number
    p_value: Number
    p_holm: Number


class Comparison(Document):
    """Trials beside each other: a value for each, in the order of `runs`."""

    runs: list[Trial]
    differs: dict[str, list[Any]]
    metrics: dict[str, list[Number]]
    pairings: list[Pairing]
    significance: Significance | None


class Run(Document):
    """The end of a sweep on this machine. references: metric → who is no trial → its score."""

    sweep_id: str
    state: TrialState
    done_before: bool
    tracking_uri: str
    report: str | None
    verdict: list[str]
    references: dict[str, dict[str, Any]]
    best: list[Ranked]


class Job(Document):
    """A sweep's job on a cluster."""

    sweep_id: str
    job: str
    state: TrialState
    message: str | None


class Submitted(Job):
    """A job that was handed over, or was there already."""

    is_new: bool


class SweepLine(Document):
    """How a sweep is doing, in a list of all. driver: the job or process that drives it."""

    sweep_id: str
    state: TrialState
    driver: str | None
    message: str | None


class Status(SweepLine):
    """How a sweep is doing, with its trials by state."""

    trials: dict[str, int]


class StoppedTrial(Document):
    """A trial that was cancelled."""

    sweep: str
    trial: int
    state: Literal["cancelled"]


class Compared(Document):
    """A metric as it was recorded and as it is again."""

    metric: str
    recorded: Number
    rerun: Number
    difference: Number
    tolerance: float
    agrees: bool


class Rerun(Document):
    """A trial trained again. differences: by what the surroundings differ, before and now."""

    verdict: str
    metrics: list[Compared]
    weights_equal: bool | None
    steps_compared: int
    first_step_that_differs: int | None
    differences: dict[str, dict[str, str | None]]
    tolerance_reason: str
    rerun_of: str
    run_id: str
    sweep_id: str
    trial: int
    duration_s: float
    recorded_duration_s: Number
    kept: str | None


class Evaluated(Document):
    """A trial's student on an evaluation set. is_new: measured now, and not before; in_train,
    in_validation: how many of its examples are also in those splits."""

    sweep_id: str
    trial: int
    run_id: str
    set: str
    place: str
    evaluated_at: str
    is_new: bool
    num_examples: int
    num_dropped: int
    in_train: int
    in_validation: int
    fingerprint: str
    fields: dict[str, Any]
    notices: list[str]
    metrics: dict[str, Number]


class Promoted(Document):
    """A student in MLflow's model registry; uri: how MLflow loads it."""

    run_id: str
    sweep_id: str
    trial: int
    name: str
    version: str
    aliases: list[str]
    uri: str


class Export(Document):
    """A folder that was written, and the names in it."""

    folder: str
    names: list[str]


class Diagnosis(Document):
    """How a part of the machine is doing."""

    name: str
    works: bool
    found: str
    remedy: str
    needed: bool


class Check(Document):
    """A check of a divergence."""

    check: str
    holds: bool
    required: bool
    detail: str


class Entropy(Document):
    """The entropy of the teacher's soft labels under a setting, in nats."""

    policy: Literal["cist", "fixed"]
    tau: Number
    rho: Number
    c: Number
    entropy_mean: float
    entropy_std: float
    share_of_log_vocab: float


class RhoRange(Document):
    """The range of rho that is proposed, as rho and in units of ln V."""

    num_positions: int
    log_vocab: float
    rho: tuple[float, float]
    rho_per_log_vocab: tuple[float, float]
    open_ends: list[float]
    rows: list[Entropy]
    picture: str


class Preset(Document):
    """A shipped sweep."""

    name: str
    finds_out: str = Field(alias="finds out")


class Part(Document):
    """A part of a deletion; bytes: null where they are not known here."""

    what: str
    count: int
    bytes: int | None
    place: str


class Deletion(Document):
    """A sweep that was deleted."""

    sweep_id: str
    parts: list[Part]
    kept: list[str]


class Item(Document):
    """A file or folder that was deleted."""

    what: str
    place: str
    bytes: int
    age_days: float


class Pruning(Document):
    """What no sweep needed, and was deleted."""

    items: list[Item]
    kept: list[str]


class SearchRow(Document):
    """A searched hyperparameter in words."""

    name: str
    domain: str
    condition: str


class Plan(SweepPlan):
    """A plan, with its search space in words."""

    search_space: list[SearchRow]


# Of `watch` and `logs` each line is a document of its own.
BY_COMMAND: Mapping[str, Any] = {
    "plan": Plan,
    "run": Run,
    "sweeps": list[Sweep],
    "trials": list[Trial],
    "best": list[Ranked],
    "compare": Comparison,
    "confirm": Run | Job,
    "report": Page,
    "presets": list[Preset] | SweepSpec,
    "schema": dict[str, Any],
    "init": SweepSpec,
    "doctor": list[Diagnosis],
    "check-loss": list[Check],
    "rho-range": RhoRange,
    "submit": Submitted,
    "status": Status | list[SweepLine],
    "logs": Event | Line,
    "watch": Event,
    "stop": Status,
    "stop-trial": StoppedTrial,
    "resume": Run | Job,
    "extend": Run | Job,
    "retry": Run | Job,
    "rerun": Rerun,
    "evaluate": list[Evaluated],
    "export": Export,
    "promote": Promoted,
    "delete": Deletion,
    "prune": Pruning,
    "cache list": list[Cache],
    "cache show": CacheDetails,
    "cache verify": list[VerifiedCache],
    "cache prune": list[Cache],
    **OF_THE_SERVICE,
}


def adapter_of(command: str) -> TypeAdapter[Any]:
    """Returns what checks a command's answer, and makes its schema."""
    return TypeAdapter(BY_COMMAND[command])
