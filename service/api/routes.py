"""The routes below /api/v1, in the order of the command line's commands. Each asks one question,
and answers as the command does with `--json`."""

from http import HTTPStatus
from operator import methodcaller
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Path, Query, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from service import actions
from service.actions.json_service import Deed, UserRow
from service.actions.json_types import (
    Comparison,
    Plan,
    Preset,
    Promoted,
    Ranked,
    Status,
    StoppedTrial,
    Submitted,
    Sweep,
    SweepLine,
    Trial,
)
from service.actions.status import SweepStatus
from service.api.answers import AdminAsks, Ask, Cursor, Limit, SubmitterAsks, ViewerAsks
from service.api.bodies import (
    BestQuestion,
    ConfirmRequest,
    ExtendRequest,
    Key,
    PromoteRequest,
    RetryRequest,
    SubmitRequest,
    SweepRequest,
)
from service.api.openapi import documented
from service.api.streaming import as_json, event_stream
from service.report.page import Page
from service.spec.document import SweepSpec
from service.wire import API, EVENTS_TYPE

LINES = "application/x-ndjson"
NONE, NOT_NOW, WRONG = HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY
AWAY = HTTPStatus.SERVICE_UNAVAILABLE
ASKING = documented(NONE, WRONG, NOT_NOW, AWAY)
UNREAD = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
SENDING = documented(NONE, WRONG, NOT_NOW, AWAY, *UNREAD)
ONE_SWEEP = Path(
    max_length=255, description="id, unique beginning of one, name, or latest", examples=["latest"]
)
OneSweep = Annotated[str, ONE_SWEEP]
TrialNumber = Annotated[int, Path(ge=0, le=10**9)]

router = APIRouter(prefix=API)


class Lines(Response):
    """A JSON document in each line."""

    media_type = LINES


@router.get("/me", response_model=UserRow, responses=documented())
def me(ask: ViewerAsks) -> Response:
    """Who calls, and what they may."""
    return ask.answer(vars(ask.user))


@router.post("/plan", response_model=Plan, responses=SENDING)
def plan(ask: SubmitterAsks, body: SweepRequest) -> Response:
    """Check a sweep and show what it will take. Spends nothing."""
    return ask.result(ask.changes.plan(body.wanted()), as_json=actions.plan.plan_json)


@router.post(
    "/sweeps",
    response_model=Submitted,
    status_code=HTTPStatus.CREATED,
    responses={200: {"model": Submitted, "description": "It was submitted before."}, **SENDING},
)
def submit(ask: SubmitterAsks, body: SubmitRequest, key: Key = None) -> Response:
    """Run a sweep, in the line of those that wait. Of the same sweep nothing is started twice."""
    # A caller without a key has drawn none, and repeats nothing.
    key = key or (f"drawn-{uuid4()}" if body.again else None)
    return _submitted(ask, ask.changes.submit(body.wanted(), key=key))


def _submitted(ask: Ask, made: Any) -> Response:
    status = HTTPStatus.CREATED if made.is_new else HTTPStatus.OK
    headers = {"Location": f"{API}/sweeps/{made.sweep_id}/status"}
    return ask.result(made, status, headers, as_json=methodcaller("to_row"))


@router.get("/sweeps", response_model=list[Sweep], responses=ASKING)
def sweeps(ask: ViewerAsks, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """List the recorded sweeps, the newest first."""
    return ask.rows(ask.hosted.sweeps(ask.user), "sweep_id", limit, cursor)


@router.get("/status", response_model=list[SweepLine], responses=ASKING)
def statuses(ask: ViewerAsks, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """Show how the sweeps are doing, also those that wait for their turn."""
    rows = ask.hosted.statuses(ask.user)
    return ask.rows(rows, "sweep_id", limit, cursor, as_json=SweepStatus.to_line)


@router.get("/sweeps/{sweep}", response_model=Sweep, responses=ASKING)
def sweep_of(ask: ViewerAsks, sweep: OneSweep) -> Response:
    """Return one recorded sweep."""
    return ask.result(ask.hosted.recorded(ask.user, sweep))


@router.get("/sweeps/{sweep}/status", response_model=Status, responses=ASKING)
def status(ask: ViewerAsks, sweep: OneSweep) -> Response:
    """Show how a sweep is doing, with its trials by state."""
    return ask.result(ask.hosted.status(ask.user, sweep))


@router.get("/sweeps/{sweep}/plan", response_model=Plan, responses=ASKING)
def plan_of(ask: ViewerAsks, sweep: OneSweep) -> Response:
    """Show what a sweep tries and was to take."""
    return ask.result(ask.hosted.plan_of(ask.user, sweep), as_json=actions.plan.plan_json)


@router.get("/sweeps/{sweep}/trials", response_model=list[Trial], responses=ASKING)
def trials(
    ask: ViewerAsks, sweep: OneSweep, limit: Limit = 1000, cursor: Cursor = None
) -> Response:
    """List a sweep's trials with their states."""
    return ask.kept_rows(ask.hosted.trials(ask.user, sweep), "trial", limit, cursor)


@router.get("/sweeps/{sweep}/best", response_model=list[Ranked], responses=ASKING)
def best(ask: ViewerAsks, sweep: OneSweep, asked: Annotated[BestQuestion, Query()]) -> Response:
    """Show the best configs, what speaks for and against them, and who wins under each metric."""
    return _best(ask, ask.hosted.find_recorded(ask.user, sweep), asked)


@router.get("/best", response_model=list[Ranked], responses=ASKING)
def best_of_all(ask: ViewerAsks, asked: Annotated[BestQuestion, Query()]) -> Response:
    """Show the best configs of each sweep that you see."""
    return _best(ask, tuple(one.sweep_id for one in ask.hosted.sweeps(ask.user)), asked)


def _best(ask: Ask, sweep: str | tuple[str, ...], asked: BestQuestion) -> Response:
    find = actions.promote.best_registered if asked.registered else actions.record.best_trials
    found = find(
        sweep,
        ask.hosted.workspace,
        metric=asked.ranking,
        where=asked.where,
        per=asked.per,
        top=asked.top,
    )
    return ask.result(found)


@router.get("/sweeps/{sweep}/trials/{trial}/file", response_model=dict[str, Any], responses=ASKING)
def trial_file(ask: ViewerAsks, sweep: OneSweep, trial: TrialNumber) -> Response:
    """Return the trial.json of a trial, with which it can be trained again."""
    run = f"{ask.hosted.find_recorded(ask.user, sweep)}/{trial}"
    found = actions.record.read_trial(run, ask.hosted.workspace)
    return ask.result(found, as_json=methodcaller("model_dump", mode="json"))


@router.get("/compare", response_model=Comparison, responses=ASKING)
def compare(
    ask: ViewerAsks,
    run: Annotated[
        list[str],
        Query(
            max_length=1000,
            description="SWEEP/NUMBER; with significance also sweeps",
            examples=[["latest/0", "latest/7"]],
        ),
    ],
    significance: bool = False,
    metric: Annotated[str | None, Query(max_length=200)] = None,
    control: Annotated[str | None, Query(max_length=300)] = None,
    examples: bool = False,
) -> Response:
    """Show what differs between trials, their metrics side by side, and what is more than
    chance."""
    find = ask.hosted.find_trial
    found = actions.record.compare_trials(
        [find(ask.user, one) for one in run],
        ask.hosted.workspace,
        significance=significance,
        metric=metric,
        control=None if control is None else find(ask.user, control),
        examples=examples,
    )
    return ask.result(found)


@router.get("/sweeps/{sweep}/report", response_model=Page, responses=ASKING)
def report(ask: ViewerAsks, sweep: OneSweep) -> Response:
    """Say what a sweep found: the answer, its evidence, what it cost."""
    sweep_id = ask.hosted.find_recorded(ask.user, sweep)
    return ask.result(actions.report.make_report(sweep_id, ask.hosted.workspace).page)


@router.get("/sweeps/{sweep}/logs", response_class=Lines, responses=ASKING)
def logs(
    ask: ViewerAsks, sweep: OneSweep, trial: Annotated[int | None, Query(ge=0)] = None
) -> Response:
    """Return what a sweep's driver wrote, a JSON document in each line."""
    sweep_id = ask.hosted.find(ask.user, sweep)
    lines = actions.follow.read_logs(sweep_id, ask.hosted.workspace, trial=trial)
    return ask.content("".join(f"{as_json(one)}\n" for one in lines).encode(), LINES)


@router.get(
    "/sweeps/{sweep}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {EVENTS_TYPE: {}}}, **ASKING},
)
async def events(
    ask: ViewerAsks,
    sweep: OneSweep,
    after: Annotated[str, Query(max_length=100, description="an event's id")] = "",
) -> Response:
    """Send a sweep's events as they come, those so far first, until its driver ends."""
    sweep_id = await run_in_threadpool(ask.hosted.find, ask.user, sweep)
    place = ask.request.headers.get("Last-Event-ID") or after
    stream = event_stream(ask.hosted, ask.user, sweep_id, place)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream, headers=headers, media_type=EVENTS_TYPE)


@router.post("/sweeps/{sweep}/stop", response_model=Status, responses=ASKING)
def stop(ask: SubmitterAsks, sweep: OneSweep) -> Response:
    """End a sweep: trials leave at their next step, and resume goes on from there. Answers once it
    has ended."""
    return ask.result(ask.changes.stop(sweep))


@router.post("/sweeps/{sweep}/trials/{trial}/stop", response_model=StoppedTrial, responses=ASKING)
def stop_trial(ask: SubmitterAsks, sweep: OneSweep, trial: TrialNumber) -> Response:
    """Cancel one running trial; the sweep goes on."""
    return ask.result(
        ask.changes.stop_trial(sweep, trial),
        as_json=lambda sweep_id: {"sweep": sweep_id, "trial": trial, "state": "cancelled"},
    )


@router.post("/sweeps/{sweep}/resume", response_model=Status, responses=ASKING)
def resume(ask: SubmitterAsks, sweep: OneSweep, key: Key = None) -> Response:
    """Go on with a sweep that was stopped, or whose driver died."""
    return ask.result(ask.changes.resume(sweep, key=key))


@router.post("/sweeps/{sweep}/extend", response_model=Status, responses=SENDING)
def extend(ask: SubmitterAsks, sweep: OneSweep, body: ExtendRequest, key: Key = None) -> Response:
    """Give a search more trials, or a study more seeds or cells, and go on with it."""
    study = body.study()
    done = ask.changes.extend(sweep, trials=body.trials, study=study, key=key)
    return ask.result(done)


@router.post("/sweeps/{sweep}/retry", response_model=Status, responses=SENDING)
def retry(ask: SubmitterAsks, sweep: OneSweep, body: RetryRequest, key: Key = None) -> Response:
    """Repeat trials that failed, diverged or were cancelled; without numbers all failed ones."""
    return ask.result(ask.changes.retry(sweep, trials=body.trials, key=key))


@router.post(
    "/sweeps/{sweep}/confirm",
    response_model=Submitted,
    status_code=HTTPStatus.CREATED,
    responses={200: {"model": Submitted, "description": "It was submitted before."}, **SENDING},
)
def confirm(ask: SubmitterAsks, sweep: OneSweep, body: ConfirmRequest, key: Key = None) -> Response:
    """Train a search's best configs and its best control again, on seeds that it never saw."""
    return _submitted(ask, ask.changes.confirm(sweep, top=body.top, seeds=body.seeds, key=key))


@router.post("/sweeps/{sweep}/trials/{trial}/promote", response_model=Promoted, responses=SENDING)
def promote(
    ask: SubmitterAsks, sweep: OneSweep, trial: TrialNumber, body: PromoteRequest
) -> Response:
    """Register a trial's student in MLflow's model registry."""
    return ask.result(ask.changes.promote(sweep, trial, name=body.name))


@router.get("/presets", response_model=list[Preset], responses=documented())
def presets(ask: ViewerAsks) -> Response:
    """List the shipped sweeps."""
    return ask.answer([one.to_json() for one in actions.documents.list_presets()])


@router.get("/presets/{name}", response_model=SweepSpec, responses=ASKING)
def preset(ask: ViewerAsks, name: Annotated[str, Path(max_length=100)]) -> Response:
    """Return a shipped sweep."""
    return ask.answer(actions.documents.read_preset(name).to_json())


@router.get("/schema", response_model=dict[str, Any], responses=documented())
def schema(ask: ViewerAsks) -> Response:
    """Return the JSON Schema of a sweep document, for editors."""
    return ask.answer(actions.documents.sweep_schema())


@router.get("/users", response_model=list[UserRow], responses=documented())
def users(ask: AdminAsks) -> Response:
    """List the users."""
    return ask.answer([vars(one) for one in ask.hosted.accounts.people.all()])


@router.get("/deeds", response_model=list[Deed], responses=documented())
def deeds(ask: AdminAsks) -> Response:
    """List who did what, the newest first."""
    return ask.answer(actions.accounts.deeds_of(ask.hosted.accounts))
