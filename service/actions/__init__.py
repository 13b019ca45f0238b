"""Everything that a user can ask for: one function each, with plain arguments and a typed result.

A module of this package is loaded when it is first named (`actions.record`, PEP 562): the command
line answers `--help` before any of them, and each command waits for its own alone.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.actions import (
        accounts,
        allowed,
        cache,
        cluster,
        confirm,
        delete,
        doctor,
        documents,
        evaluate,
        follow,
        go_on,
        hosted,
        hosted_changes,
        json_caches,
        json_document,
        json_lines,
        json_service,
        json_significance,
        json_types,
        kept,
        launch,
        launch_there,
        loss,
        plan,
        promote,
        prune,
        quotas,
        record,
        report,
        rerun,
        rho,
        run,
        run_result,
        run_there,
        status,
    )

__all__ = [
    "accounts",
    "allowed",
    "cache",
    "cluster",
    "confirm",
    "delete",
    "doctor",
    "documents",
    "evaluate",
    "follow",
    "go_on",
    "hosted",
    "hosted_changes",
    "json_caches",
    "json_document",
    "json_lines",
    "json_service",
    "json_significance",
    "json_types",
    "kept",
    "launch",
    "launch_there",
    "loss",
    "plan",
    "promote",
    "prune",
    "quotas",
    "record",
    "report",
    "rerun",
    "rho",
    "run",
    "run_result",
    "run_there",
    "status",
]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"service.actions has no module '{name}'; it has {', '.join(__all__)}")
    return import_module(f"{__name__}.{name}")
