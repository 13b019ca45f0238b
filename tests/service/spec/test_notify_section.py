"""The section `notify`: names of variables and a program, nothing that may be secret."""

from pathlib import Path

import pytest
from cli_support import call, document, make_folder, plan
from fakes import make_document, make_sweep_plan

from service.errors import SpecError
from service.plan.plan import SweepPlan
from service.spec.parse import json_schema, parse_spec


@pytest.mark.parametrize(
    "given", ["env:HOOK", ["env:HOOK"], {"urls": "env:HOOK"}, {"urls": ["env:HOOK"]}]
)
def test_variables_may_be_written_without_their_name(given: object) -> None:
    assert parse_spec(make_document(notify=given)).notify.urls == ("env:HOOK",)


@pytest.mark.parametrize(
    "given",
    [
        ["slack://T1JJ3T3L2/hunter2hunter2/x"],
        {"urls": ["https://hooks.example/hunter2"]},
        "env:slack://hunter2",
        "hunter2",
        ["tgram://hunter2:AAA/1"],
        ["json://me:hunter2@host"],
        ["json://host/hunter2"],
        ["json://host?token=hunter2"],
        ["mailto://host?from=a@b.org&to=c@d.org&pass=hunter2"],
        ["mailtos://me:hunter2@host"],
        ["ntfy://hunter2"],
    ],
)
def test_an_address_itself_is_refused_and_not_repeated(given: object) -> None:
    with pytest.raises(SpecError, match=r"notify.urls\[0\]: must be env:NAME") as refusal:
        parse_spec(make_document(notify=given))
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    "address",
    [
        "json://host:8080",
        "forms://10.0.0.1/",
        "rsyslog://log-host",
        "syslog://",
        "mailto://localhost?from=a@b.org&to=c@d.org",
    ],
)
def test_an_address_that_can_hold_no_secret_is_written_as_it_is(address: str) -> None:
    found = parse_spec(make_document(notify=address)).notify
    assert found.addresses({}) == {address: address}
    both = parse_spec(make_document(notify=[address, "env:HOOK"])).notify
    assert both.addresses({"HOOK": "slack://x"}) == {address: address, "env:HOOK": "slack://x"}


def test_a_password_among_a_programs_arguments_is_refused() -> None:
    with pytest.raises(SpecError, match=r"notify.command: must hold no password"):
        parse_spec(make_document(notify={"command": "curl https://me:hunter2@host"}))


def test_who_is_told_makes_no_other_sweep() -> None:
    told = make_sweep_plan(notify={"urls": ["env:HOOK"], "command": "/bin/true"})
    assert told.sweep_id == make_sweep_plan().sweep_id


def test_a_recorded_plan_keeps_who_is_told() -> None:
    plan = make_sweep_plan(notify={"urls": ["env:HOOK"], "command": "/bin/true"})
    assert SweepPlan.model_validate_json(plan.model_dump_json()).spec.notify == plan.spec.notify


def test_an_editor_takes_both_forms() -> None:
    kinds = json_schema()["properties"]["notify"]["anyOf"]
    assert {kind.get("$ref", kind.get("type")) for kind in kinds} == {"#/$defs/Notify", "array"}


def test_a_program_is_found_from_here_and_must_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path, monkeypatch)
    missing = plan(folder, document(notify={"command": "./tell.sh --all"}))
    assert missing.exit_code == 3
    assert "notify.command: must be a program's file, without arguments" in missing.output
    (folder / "tell.sh").write_text("#!/bin/sh\n")
    closed = plan(folder, document(notify={"command": "./tell.sh"}))
    assert "may not be run (chmod +x it)" in closed.output.replace("\n", " ")
    (folder / "tell.sh").chmod(0o755)
    shown = plan(folder, document(notify={"urls": ["env:HOOK"], "command": "./tell.sh"}), "--json")
    assert shown.exit_code == 0
    assert f'"command": "{folder}/tell.sh"' in shown.stdout
    assert "env:HOOK" in call("plan", "sweep.yaml").stdout
