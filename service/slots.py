"""Slots: long-lived Ray Train runs whose workers train one trial after another.

Each slot has a thread here that hosts Ray Train's `fit()` and starts it anew when it ends before
its time. Inside a run Ray Train restarts a group of workers by itself.
"""

import logging
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

from ray.train import BackendConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2.api.callback import UserCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from trainers.worker import SlotConfig, work

log = logging.getLogger(__name__)
CONTROLLER_FAILURES = 3


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


class TellBoard(UserCallback):  # type: ignore[misc]  # Ray has no types
    """Runs in Ray Train's controller: says at once that a group died, seconds before it starts
    again."""

    def __init__(self, board: Any, slot: str) -> None:
        self._board = board
        self._slot = slot

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Tells the board which ranks failed and how."""
        import ray

        reasons = "; ".join(
            f"rank {rank}: {_first_line(error)}" for rank, error in worker_exceptions.items()
        )
        ray.get(self._board.slot_lost.remote(self._slot, reasons), timeout=30)


class _SlotTrainer(DataParallelTrainer):  # type: ignore[misc]  # Ray has no types
    """Without Ray Data, which nothing here uses: its manager is one more process in each slot."""

    def _create_default_callbacks(self) -> list[Any]:
        made = super()._create_default_callbacks()
        return [callback for callback in made if not isinstance(callback, DatasetsCallback)]


class Slot:
    """One slot and the thread that keeps it alive until the board is closed."""

    def __init__(self, config: SlotConfig, shape: SlotShape, storage: str) -> None:
        self._config = config
        self._shape = shape
        self._storage = storage
        self._leaving = threading.Event()
        self.thread = threading.Thread(target=self._host, name=config.slot, daemon=True)

    def start(self) -> None:
        """Starts the slot; its workers are up some seconds later."""
        self.thread.start()

    def leave(self) -> None:
        """Starts no further group after the present one."""
        self._leaving.set()

    def _host(self) -> None:
        import ray

        while not self._leaving.is_set():
            reason = self._fit()
            try:
                ray.get(self._config.board.slot_lost.remote(self._config.slot, reason), timeout=30)
                status = ray.get(self._config.board.status.remote(), timeout=30)
            except Exception as error:  # the board or Ray itself is gone, and every slot with it
                log.info("slot %s ends: %s", self._config.slot, _first_line(error))
                return
            ended = [*status["given_up"], *status["retired"]]
            if status["closed"] or self._config.slot in ended:
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
                    max_failures=-1, controller_failure_limit=CONTROLLER_FAILURES
                ),
                callbacks=[TellBoard(self._config.board, self._config.slot)],
            ),
        )
        try:
            trainer.fit()
        except Exception as error:  # a slot may die of anything; the board decides what follows
            return _first_line(error)
        return "its Ray Train run ended"


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
        """Ends all slots: after `grace_s` those still in a step are killed. Returns whether all
        ended within `kill_s` more."""
        import ray

        for slot in self._slots:
            slot.leave()
        ray.get(self._board.close.remote())
        if self._join(grace_s):
            return True
        for slot in self._slots:
            ray.get(self._board.kill.remote(slot.thread.name))
        return self._join(kill_s)

    def _join(self, timeout_s: float) -> bool:
        end = time.monotonic() + timeout_s
        for slot in self._slots:
            slot.thread.join(max(0.0, end - time.monotonic()))
        return not any(slot.thread.is_alive() for slot in self._slots)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
