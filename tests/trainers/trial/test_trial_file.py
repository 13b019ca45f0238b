"""trial.json read back: those that were written before too."""

import json
from pathlib import Path

import pytest

from trainers.trial.config import TrialConfig
from trainers.trial.sources import CODE_ROLES
from trainers.trial.trial_file import TrialFile, TrialPaths

PATHS = TrialPaths(teacher="/teacher", student="/student", data="/data")


def test_an_earlier_file_names_a_clamp_under_every_policy(tmp_path: Path) -> None:
    trial = TrialFile(config=TrialConfig(tau=2.0), paths=PATHS)
    earlier = trial.model_dump(mode="json")
    earlier["config"] |= {"tau_min": 0.001, "tau_max": 1000.0}
    path = tmp_path / "trial.json"
    path.write_text(json.dumps(earlier))
    assert TrialFile.read(path) == trial


@pytest.mark.parametrize("clamp", [{}, {"tau_min": 0.5, "tau_max": 1000.0}])
def test_a_clamp_that_the_policy_has_is_kept(tmp_path: Path, clamp: dict[str, float]) -> None:
    config = TrialConfig.model_validate({"policy": "cist", **clamp})
    trial = TrialFile(config=config, paths=PATHS)
    trial.write(tmp_path / "trial.json")
    assert TrialFile.read(tmp_path / "trial.json") == trial


@pytest.mark.parametrize(
    ("given", "trusted"),
    [
        (True, ("teacher", "student", "tokenizer")),  # as earlier versions wrote it
        (False, ()),
        (["teacher"], ("teacher",)),
        (["student", "tokenizer"], ("student", "tokenizer")),
    ],
)
def test_code_is_trusted_by_role(tmp_path: Path, given: object, trusted: tuple[str, ...]) -> None:
    content = TrialFile(config=TrialConfig(), paths=PATHS).model_dump(mode="json")
    path = tmp_path / "trial.json"
    path.write_text(json.dumps(content | {"trust_remote_code": given}))
    trial = TrialFile.read(path)
    assert tuple(role for role in CODE_ROLES if trial.trusts(role)) == trusted
    trial.write(path)
    assert json.loads(path.read_text())["trust_remote_code"] == given


def test_what_is_no_trial_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "trial.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="trial.json is not a trial.json of format 1"):
        TrialFile.read(path)
