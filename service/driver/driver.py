"""The driver: holds the sweep's lock, connects to Ray, and runs the stages (`stages`) in there.

The order is the same on a laptop and in a Ray job, for a new sweep and for one whose driver died.
"""

import threading
from collections.abc import Callable
from functools import partial

from service.driver.loading import load_workers
from service.driver.lock import sweep_lock
from service.driver.log import driver_log
from service.driver.notify import Notifier
from service.driver.place import Place
from service.driver.requests import clear_requests
from service.events import DriverEvent, SweepEnded, SweepSummary, Waiting, is_for_logs
from service.plan.places import plan_file, sweep_folder
from service.plan.plan import SweepPlan
from service.slots.session import ray_session
from trainers.files.store import write_text


def run_at(
    place: Place,
    plan: SweepPlan,
    *,
    on_event: Callable[[DriverEvent], None],
    stop: threading.Event,
) -> SweepSummary:
    """Runs the sweep to its end and returns what came of it; one that was started before goes on.

    `stop`, once set, ends the sweep within about 15 s: finished trials keep their results, running
    ones are cancelled. Raises `JobError` when another driver has the sweep or no slot can start,
    `PlanError` when its inputs cannot be made, and `TrackingError` when MLflow is away at the
    start. Whom the spec's `notify` names is told of the end and of such failures.
    """
    folder = sweep_folder(plan, place.home)
    load = partial(load_workers, place.tools.load, plan.spec.task)
    with sweep_lock(folder), driver_log(folder) as write:

        def tell(event: DriverEvent) -> None:
            if is_for_logs(event):
                write(event)
            on_event(event)

        clear_requests(folder)
        write_text(plan_file(folder), plan.model_dump_json())
        with Notifier(plan, tell) as notifier:
            where = place.ray_address
            notifier.pass_on(Waiting(f"joining Ray at {where}" if where else "starting Ray"))
            with ray_session(plan, folder, place.ray_address, load=load):
                notifier.pass_on(Waiting("opening study and record"))
                # This loads MLflow, which takes seconds, while Ray's first processes start.
                from service.driver.stages import drive

                summary = drive(place, plan, on_event=notifier.pass_on, stop=stop)
            notifier.take(SweepEnded(summary))
        # Last of all, when the notifier has said what it had to: displays close at this event.
        tell(SweepEnded(summary))
    return summary
