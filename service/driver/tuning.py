"""Runs what is left of a sweep's trials: slots that train them, Ray Tune that hands them out."""

import logging
import shutil
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from ray import tune
from ray.widgets.util import in_notebook

from service.driver.ledger import Ledger
from service.driver.place import Sweep
from service.driver.searcher import LedgerScheduler, LedgerSearcher
from service.driver.watch import Watch
from service.events import Waiting
from service.home import spool_folder
from service.plan.places import checkpoints_url, slots_folder
from service.record.run_entries import model_facts
from service.record.sink import SinkFactory
from service.slots.slots import Slot, SlotPool, SlotShape
from service.slots.trial import train_in_slot
from trainers.training.slot_trial import SlotConfig
from trainers.training.standing import TrialFunction

log = logging.getLogger(__name__)
# How long slots may take to end: a step's end after a stop, the last uploads otherwise.
STOP_GRACE_S = 4.0
END_GRACE_S = 75.0
# Asks for no CPU: slots take them all, and Tune refuses a trial that asks for nothing.
TRIAL_RESOURCES = {"cpu": 0, "node:__internal_head__": 0.001}
# Of the small actor that follows a trial, and starts its attempt again; not of its workers.
ACTOR_DEATHS = 3


def tune_trials(sweep: Sweep, board: Any, ledger: Ledger, watch: Watch) -> None:
    """Runs what is left of the budget; when it returns, all trials have their final states."""
    pool = _pool(sweep, board)
    watch.cover(ledger)
    num = sweep.plan.slots
    sweep.on_event(Waiting("starting a slot" if num == 1 else f"starting {num} slots"))
    pool.start()
    try:
        _tune(sweep, ledger, watch)
    finally:
        sweep.on_event(Waiting("ending the slots"))
        watch.close()  # before slots go down, which it would show
        ledger.stop()
        ended = pool.close(grace_s=STOP_GRACE_S if sweep.stop.is_set() else END_GRACE_S)
        # What Tune left without a word (it asks nobody once it is interrupted) is closed last, when
        # no slot reports any more.
        ledger.close()
        if not ended:
            log.warning("some slots did not end; ending Ray ends them")


def _pool(sweep: Sweep, board: Any) -> SlotPool:
    plan, uri = sweep.plan, sweep.place.tracking_uri
    spool = spool_folder(sweep.place.home, uri, plan.spec.tracking.experiment)
    sinks = SinkFactory(uri, str(spool), plan.spec.tracking.experiment, model_facts(plan))
    shape = SlotShape(plan.workers_per_trial, plan.cpus_per_worker, plan.gpus_per_worker)
    configs = [
        SlotConfig(
            slot=f"slot-{number}",
            board=board,
            folder=str(sweep.folder.resolve()),
            trainer=_trainer(sweep),
            sinks=sinks,
            max_trials=1 if plan.isolation == "strict" else None,
        )
        for number in range(plan.slots)
    ]
    storage = str(slots_folder(sweep.folder))
    return SlotPool([Slot(config, shape, storage) for config in configs], board)


def _trainer(sweep: Sweep) -> Callable[[], TrialFunction]:
    trainer, url = sweep.place.tools.trainer, checkpoints_url(sweep.plan)
    return trainer if url is None else partial(trainer, checkpoints=url)


def _tune(sweep: Sweep, ledger: Ledger, watch: Watch) -> None:
    name = f"tune-{uuid.uuid4().hex[:8]}"
    tuner = tune.Tuner(
        tune.with_resources(train_in_slot, TRIAL_RESOURCES),
        tune_config=tune.TuneConfig(
            search_alg=LedgerSearcher(ledger, lambda: watch.num_up),
            scheduler=LedgerScheduler(ledger),
            num_samples=-1,  # as many as the ledger gives
            # Without it Tune asks a searcher for a trial only when none is pending.
            max_concurrent_trials=sweep.plan.slots,
            reuse_actors=True,  # to start one takes seconds
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(sweep.folder),
            failure_config=tune.FailureConfig(max_failures=ACTOR_DEATHS),
            verbose=0,
            # In a notebook Tune's own reporter clears what the cell shows, silent as it is.
            progress_reporter=tune.CLIReporter() if in_notebook() else None,
        ),
    )
    try:
        tuner.fit()
    finally:
        # Tune's own state is never read: the study is the truth.
        shutil.rmtree(sweep.folder / name, ignore_errors=True)


def _name(trial: Any) -> str:
    return str(trial.trial_id)
