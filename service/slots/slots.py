"""Slots: long-lived Ray Train runs whose workers train one trial after another.

Two things replace what breaks. Inside a run Ray Train restarts the group of workers, all of its
ranks with new processes, when one of them dies or raises. The run itself ends only when its
controller dies, alone or with its node; then the slot's thread here, which hosts `fit()`, starts
another run. When many workers die at once, each slot is replaced on its own, and the board's count
of deaths without an assignment ends the attempts where slots cannot start at all.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.train import BackendConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.constants import get_env_vars_to_propagate
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from trainers.training.slot_trial import SlotConfig
from trainers.worker import work

log = logging.getLogger(__name__)
CONTROLLER_FAILURES = 3  # of one run to start; Ray Train would try for ever


@dataclass(frozen=True)
class SlotShape:
    """What one slot takes: workers, and CPUs and GPUs of each (fractions allowed)."""

    num_workers: int
    cpus_per_worker: float
    gpus_per_worker: float

    def scaling(self) -> ScalingConfig:
        """Returns Ray Train's words for it."""
        resources = {"CPU": self.cpus_per_worker}
        if self.gpus_per_worker > 0:
            resources["GPU"] = self.gpus_per_worker
        return ScalingConfig(
            num_workers=self.num_workers,
            use_gpu=self.gpus_per_worker > 0,
            resources_per_worker=resources,
        )

    def backend(self) -> BackendConfig:
        """Returns what joins several workers. One is alone, and then only the worker loads torch:
        the driver and each slot's controller are spared 3 s and 200 MB."""
        if self.num_workers == 1:
            return BackendConfig()
        from ray.train.torch import TorchConfig

        return TorchConfig(backend="nccl" if self.gpus_per_worker > 0 else "gloo")


class BoardCallback(WorkerGroupCallback):  # type: ignore[misc]  # Ray has no types
    """Runs in Ray Train's controller: reports to the board what the slot holds, and the death of a
    group as soon as it is seen. The next group enters seconds later; until then the trial would
    wait, and a long poll of the dead worker could take the next assignment with it."""

    def __init__(self, board: Any, slot: str) -> None:
        self._board = board
        self._slot = slot

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Notes the placement group, which a controller that is killed leaves behind."""
        held = worker_group.get_worker_group_state().placement_group_handle.placement_group
        ray.get(self._board.slot_holds.remote(self._slot, held), timeout=30)

    def after_worker_group_poll_status(self, worker_group_status: Any) -> None:
        """Says which ranks failed and how."""
        errors = worker_group_status.errors
        if not errors:
            return
        reasons = "; ".join(f"rank {rank}: {_first_line(error)}" for rank, error in errors.items())
        ray.get(self._board.slot_lost.remote(self._slot, reasons), timeout=30)


class _SlotTrainer(DataParallelTrainer):  # type: ignore[misc]  # Ray has no types
    """A run that hands out its controller, so that a start that nobody waits for can be ended.

    It runs without Ray Data, which nothing here uses, and without the actor that gives back what a
    killed controller held, which `Slot` does itself: each is one more process in a slot, and the
    second one never ends when the controller is killed while it starts.
    """

    def fit_with(self, on_controller: Callable[[Any], None]) -> None:
        """Returns when the run has ended; `on_controller` gets the controller before it starts."""
        self._on_controller = on_controller
        self.fit()

    def _create_default_callbacks(self) -> list[Any]:
        left_out = (DatasetsCallback, PlacementGroupCleanerCallback)
        made = super()._create_default_callbacks()
        return [callback for callback in made if not isinstance(callback, left_out)]

    def _initialize_and_run_controller(
        self,
        *,
        train_fn_ref: Any,
        scaling_policy: Any,
        failure_policy: Any,
        train_run_context: Any,
        callbacks: Any,
        validation_config: Any,
    ) -> Any:
        # As Ray Train's own, which keeps the controller to itself. On the driver's node: the loss
        # of any other one never costs a controller.
        own_node = {ray._raylet.RAY_NODE_ID_KEY: ray.get_runtime_context().get_node_id()}
        environment = {"env_vars": get_env_vars_to_propagate()}
        actor = ray.remote(num_cpus=0, label_selector=own_node, runtime_env=environment)
        controller = actor(TrainController).remote(
            train_fn_ref=train_fn_ref,
            scaling_policy=scaling_policy,
            failure_policy=failure_policy,
            train_run_context=train_run_context,
            callbacks=callbacks,
            validation_config=validation_config,
        )
        self._on_controller(controller)
        ray.get(controller.run.remote())
        return ray.get(controller.get_result.remote())


class Slot:
    """One slot and the thread that keeps it alive until the board is closed."""

    def __init__(self, config: SlotConfig, shape: SlotShape, storage: str) -> None:
        self._config = config
        self._shape = shape
        self._storage = storage
        self._is_last_run = threading.Event()
        # `end` comes from the driver's thread while this slot's thread may be about to start a
        # controller: whichever comes second kills it.
        self._lock = threading.Lock()
        self._is_ended = False
        self._controller: Any = None
        self.thread = threading.Thread(target=self._host, name=config.slot, daemon=True)

    def start(self) -> None:
        """Starts the slot; its workers are up some seconds later."""
        self.thread.start()

    def leave(self) -> None:
        """Starts no further run after the present one."""
        self._is_last_run.set()

    def end(self) -> None:
        """Kills the slot's controller, and with it its workers; also one that is only to come."""
        with self._lock:
            self._is_ended = True
            self._kill()

    def _host(self) -> None:
        while not self._is_last_run.is_set():
            reason = self._fit()
            # The loss first: until the board knows of it, a trial waits for a slot that is gone.
            board, slot = self._config.board, self._config.slot
            try:
                held = ray.get(board.slot_lost.remote(slot, reason), timeout=30)
                if held is not None:
                    # A killed controller leaves its placement group behind, with all its CPUs.
                    ray.util.remove_placement_group(held)
                status = ray.get(board.status.remote(), timeout=30)
            except Exception as error:  # the board or Ray itself is gone, and every slot with it
                log.info("slot %s ends: %s", slot, _first_line(error))
                return
            if status.is_closed or slot in [*status.given_up, *status.retired]:
                return

    def _fit(self) -> str:
        """Hosts one Ray Train run to its end; returns why it ended."""
        trainer = _SlotTrainer(
            work,
            train_loop_config={"slot": self._config},
            scaling_config=self._shape.scaling(),
            backend_config=self._shape.backend(),
            run_config=RunConfig(
                # A new name each time: Ray Train would resume a run whose name it knows.
                name=f"{self._config.slot}-{uuid.uuid4().hex[:8]}",
                storage_path=self._storage,
                failure_config=FailureConfig(
                    # Any number, since Ray counts over the slot's life: the board counts those in
                    # a row.
                    max_failures=-1,
                    controller_failure_limit=CONTROLLER_FAILURES,
                ),
                callbacks=[BoardCallback(self._config.board, self._config.slot)],
            ),
        )
        try:
            trainer.fit_with(self._keep_controller)
        except Exception as error:  # a slot may die of anything; the board decides what follows
            return _first_line(error)
        return "its Ray Train run ended"

    def _keep_controller(self, controller: Any) -> None:
        with self._lock:
            self._controller = controller
            if self._is_ended:
                self._kill()

    def _kill(self) -> None:
        if self._controller is not None:
            ray.kill(self._controller)


class SlotPool:
    """All slots of a sweep."""

    def __init__(self, slots: list[Slot], board: Any) -> None:
        self._slots = slots
        self._board = board

    def start(self) -> None:
        """Starts every slot."""
        for slot in self._slots:
            slot.start()

    def close(self, *, grace_s: float, kill_s: float = 10.0) -> bool:
        """Ends all slots: at once those that only start, after `grace_s` those still in a step.
        Returns whether all ended within `kill_s` more."""
        # No further runs before the board is closed: a slot that quits because of that would be
        # taken for one that died, and started again.
        for slot in self._slots:
            slot.leave()
        ray.get(self._board.close.remote())
        alive = ray.get(self._board.status.remote()).alive
        for slot in self._slots:
            # Leaving Ray under a thread that waits for a start would end this process.
            if slot.thread.name not in alive:
                slot.end()
        if self._join(grace_s):
            return True
        for slot in self._slots:
            slot.end()
        return self._join(kill_s)

    def _join(self, timeout_s: float) -> bool:
        end = time.monotonic() + timeout_s  # one for all: they end beside each other
        for slot in self._slots:
            slot.thread.join(max(0.0, end - time.monotonic()))
        return not any(slot.thread.is_alive() for slot in self._slots)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
