"""What a sweep's processes load, once for all of them."""

import importlib
from collections.abc import Callable


def load_workers(load: Callable[[str], None], task: str) -> None:
    """Imports what the workers of a sweep need beside Ray; `load` does so for what trains."""
    load(task)
    from service.record.client import set_client_environment

    set_client_environment()
    importlib.import_module("service.record.writes")  # which loads MLflow
