"""`kd_sweep.connect`: the module's functions for a service."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_support import PLAN, service
from client_support import Listening, listening

import kd_sweep
from kd_sweep import errors
from service.actions import record

MINE = PLAN.sweep_id


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    with service(tmp_path_factory.mktemp("served")) as made, listening(made) as server:
        yield server


def test_it_has_the_functions_that_are_offered_and_no_others(served: Listening) -> None:
    team = kd_sweep.connect(served.address, served.service.tokens["anna"])
    functions = {name for name in kd_sweep.__all__ if inspect.isfunction(getattr(kd_sweep, name))}
    lacking = {"connect", "workspace", "rerun", "evaluate", "export"}
    assert vars(team).keys() == functions - lacking
    assert team.best.__doc__ == kd_sweep.best.__doc__


def test_its_answers_are_the_modules(served: Listening) -> None:
    team = kd_sweep.connect(served.address, served.service.tokens["anna"])
    here = served.here
    assert team.trials(MINE) == kd_sweep.trials(MINE, workspace=here)
    assert team.best(MINE, top=1) == kd_sweep.best(MINE, top=1, workspace=here)
    assert team.status("latest") == kd_sweep.status(MINE, workspace=here)
    frame = kd_sweep.trials(MINE, workspace=here).to_frame()
    assert team.trials(MINE).to_frame().equals(frame)
    assert [one.sweep_id for one in team.sweeps()] == [MINE]
    with pytest.raises(errors.TrackingError, match="exactly one sweep of yours must be meant"):
        team.trials("other")


def test_the_environment_may_name_the_service(
    served: Listening, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(errors.SpecError, match="connect: the address of a service must be given"):
        kd_sweep.connect()
    monkeypatch.setenv("KD_SWEEP_SERVER", served.address)
    monkeypatch.setenv("KD_SWEEP_TOKEN", served.service.tokens["anna"])
    assert kd_sweep.connect().sweeps() == kd_sweep.sweeps() == record.list_sweeps(served.to("anna"))
    for ask in (kd_sweep.workspace, lambda: kd_sweep.rerun("x/0")):
        with pytest.raises(errors.SpecError, match="must be where the sweeps are, but got "):
            ask()
    assert not (tmp_path / "kd-sweep-home").exists()
