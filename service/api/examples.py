"""What OpenAPI shows: an example of each answer, by the name of its route, and of each problem."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from service.actions.hosted import NoSuchSweep, NotAllowed
from service.api.bodies import DOCUMENT
from service.errors import JobError, SpecError, SweepError, TrackingError

SWEEP_ID = "dolly-small-3fa94c21"
SWEEP: dict[str, Any] = {
    "sweep_id": SWEEP_ID,
    "sweep_name": "dolly-small",
    "run_id": "0c9a1e5d4f0b4d0a8f6f0e6c2a7b9d31",
    "state": "running",
    "objective": {"metric": "rouge_l", "direction": "maximize"},
    "num_trials": 24,
    "study": None,
    "confirms": None,
    "started_at": "2026-11-02T09:15:00+00:00",
    "duration_s": None,
    "facts": {},
}
TRIAL: dict[str, Any] = {
    "sweep_id": SWEEP_ID,
    "sweep_name": "dolly-small",
    "trial": 7,
    "attempt": 0,
    "run_id": "5b2f7c0e9d8a4c1f9a3e6d7b8c0f1e2d",
    "state": "completed",
    "label": None,
    "cell": None,
    "role": None,
    "hyperparameters": {"tau": 2.5},
    "metrics": {"rouge_l": 27.4, "cross_entropy": 2.31},
    "objective": 27.4,
    "started_at": "2026-11-02T09:41:00+00:00",
    "duration_s": 412.5,
}
CONTROL = TRIAL | {
    "trial": 1,
    "run_id": "8d3c1b2a4e5f60718293a4b5c6d7e8f9",
    "label": "forward KL, tau 1",
    "hyperparameters": {"tau": 1.0},
    "metrics": {"rouge_l": 26.1, "cross_entropy": 2.28},
    "objective": 26.1,
}
STATUS: dict[str, Any] = {
    "sweep_id": SWEEP_ID,
    "state": "running",
    "driver": "process 4711 on head",
    "message": None,
}
DETAILS = STATUS | {"trials": {"completed": 9, "running": 2, "pending": 13}}
PLAN: dict[str, Any] = {
    "sweep_id": SWEEP_ID,
    "spec": DOCUMENT,
    "code_version": "0.1.0",
    "controls": [{"label": "forward KL, tau 1", "values": {"tau": 1.0}}],
    "num_trials": 24,
    "slots": 2,
    "workers_per_trial": 1,
    "cpus_per_worker": 1.0,
    "gpus_per_worker": 1.0,
    "isolation": "slot",
    "teacher": {"source": "cache:float32", "reason": ""},
    "cluster": {"num_cpus": 16.0, "num_gpus": 2.0},
    "facts": {"num_train_examples": 11000, "vocab_size": 50257},
    "estimate": {"duration_s": 5100.0, "gpu_hours": 2.8, "basis": "an earlier sweep"},
    "search_space": [{"name": "tau", "domain": "float 0.5 to 8, log", "condition": ""}],
}
VERDICT = "tau=2.5 (trial 7) won: rouge_l 27.4; forward KL, tau 1: 26.1"
RANKED = [
    TRIAL
    | {
        "metric": "rouge_l",
        "direction": "maximize",
        "value": 27.4,
        "interval": None,
        "trials": [7],
        "group": None,
        "registered": [],
        "warning": None,
        "verdict": [VERDICT],
    }
]
TRIAL_FILE: dict[str, Any] = {
    "format_version": 1,
    "sweep_id": SWEEP_ID,
    "trial": 7,
    "config": {"divergence": "forward_kl", "policy": "fixed", "tau": 2.5, "steps": 400},
    "paths": {"teacher": "/data/teacher", "student": "/data/student", "data": "/data/dolly"},
}
USER: dict[str, Any] = {
    "name": "anna",
    "role": "submitter",
    "project": "vision",
    "may_run_code": False,
}
STARTED = (
    '{"event": "TrialStarted", "trial": 7, "attempt": 0, "label": null, "hyperparameters": {}}'
)
ANSWERS: Mapping[str, Any] = {
    "me": USER,
    "plan": PLAN,
    "submit": {
        "sweep_id": SWEEP_ID,
        "job": SWEEP_ID,
        "state": "pending",
        "message": "waits for 2 before it",
        "is_new": True,
    },
    "sweeps": [SWEEP],
    "statuses": [STATUS],
    "sweep_of": SWEEP,
    "status": DETAILS,
    "plan_of": PLAN,
    "trials": [TRIAL],
    "best": RANKED,
    "best_of_all": RANKED,
    "trial_file": TRIAL_FILE,
    "compare": {
        "runs": [CONTROL, TRIAL],
        "differs": {"tau": [1.0, 2.5]},
        "metrics": {"rouge_l": [26.1, 27.4], "cross_entropy": [2.28, 2.31]},
        "pairings": [],
        "significance": None,
    },
    "report": {
        "sweep_id": SWEEP_ID,
        "title": "Report on dolly-small",
        "subtitle": f"{SWEEP_ID} · completed · 24 of 24 trials · maximize rouge_l",
        "answer": {
            "found": f"{VERDICT}.",
            "certainty": "It was never trained on seeds that the search did not see.",
            "confidence": "unconfirmed",
        },
        "sections": [{"name": "setting", "title": "What was held fixed"}],
    },
    "logs": f"{STARTED}\n",
    "events": f"retry: 2000\n\nid: 0-118\ndata: {STARTED}\n\n",
    "stop": DETAILS | {"state": "cancelled", "driver": None, "trials": {"completed": 9}},
    "stop_trial": {"sweep": SWEEP_ID, "trial": 7, "state": "cancelled"},
    "resume": DETAILS | {"state": "pending", "driver": None, "message": "is next"},
    "extend": DETAILS | {"state": "pending", "driver": None, "message": "is next"},
    "retry": DETAILS | {"state": "pending", "driver": None, "message": "is next"},
    "confirm": {
        "sweep_id": f"{SWEEP_ID}-c1f20",
        "job": f"{SWEEP_ID}-c1f20",
        "state": "pending",
        "message": "is next",
        "is_new": True,
    },
    "promote": {
        "run_id": TRIAL["run_id"],
        "sweep_id": SWEEP_ID,
        "trial": 7,
        "name": "dolly-student",
        "version": "3",
        "aliases": ["champion"],
        "uri": "models:/dolly-student@champion",
    },
    "presets": [{"name": "temperature", "finds out": "which temperature, for which divergence"}],
    "preset": DOCUMENT,
    "schema": {"title": "SweepSpec", "type": "object"},
    "users": [USER],
    "deeds": [
        {"at": "2026-11-02T09:14:58", "user": "anna", "deed": "submit", "about": SWEEP_ID},
    ],
    "health": {"status": "ok"},
    "readiness": {"status": "ok"},
    "metrics": 'kd_sweep_sweeps{state="running"} 1.0\n',
}
PROBLEMS: Mapping[int, SweepError | str] = {
    HTTPStatus.UNAUTHORIZED: "token: must come with every request, but got none that holds. Send "
    "the header Authorization: Bearer TOKEN; kd-sweep tokens new USER makes one.",
    HTTPStatus.FORBIDDEN: NotAllowed(
        "user vera: the role must be submitter or more for this, but got viewer. Ask an admin."
    ),
    HTTPStatus.NOT_FOUND: NoSuchSweep(
        "sweep 'doly': exactly one sweep of yours must be meant, but got 0. Did you mean 'dolly'? "
        "See the list of sweeps."
    ),
    HTTPStatus.NOT_ACCEPTABLE: "kd-sweep: must be the service's version, 0.1.0, but got 0.0.9. "
    "Install that one, or have the service updated.",
    HTTPStatus.REQUEST_TIMEOUT: "body: must have come in 30 seconds, but got only a part of it. "
    "Send it again, or send less.",
    HTTPStatus.CONFLICT: JobError(
        f"sweep {SWEEP_ID}: must have ended before it goes on, but it is running. Wait for it, or "
        "stop it first."
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body: must have at most 1,048,576 bytes, but got more. "
    "Leave out what the sweep does not need.",
    HTTPStatus.UNPROCESSABLE_ENTITY: SpecError(
        "search.tau: low > 0 must hold when log is true, but got low=0.0. Use a positive low, or "
        "log: false."
    ),
    HTTPStatus.TOO_MANY_REQUESTS: "token: 10 wrong ones a minute at most may come from an address, "
    "but got more. Wait a minute.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "service: must answer, but got an error of its own. Its log "
    "has more.",
    HTTPStatus.SERVICE_UNAVAILABLE: TrackingError(
        "http://mlflow:5000: the tracking server must answer, but got: connection refused. Start "
        "it."
    ),
}
