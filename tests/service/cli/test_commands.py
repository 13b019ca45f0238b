"""The command line through the eyes of a user: bad input, exit codes, JSON, and the README."""

import errno
import json
import socket
from pathlib import Path
from typing import Any

import numpy
import pytest
import yaml
from cli_support import (
    CONFIG,
    assert_refused,
    call,
    document,
    make_folder,
    plan,
    rows_of,
)
from records_support import make_store, plan_of, record_sweep
from safetensors.numpy import save_file

from service.actions import plan as planning
from service.cli.main import app
from service.home import home_folder
from service.plan.resources import Resources
from trainers.trial.trial_file import TrialFile

VISIBLE = [
    one.name or one.callback.__name__
    for one in app.registered_commands
    if one.callback and not one.hidden
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_folder(tmp_path, monkeypatch)


def make_model(path: Path, vocab_size: int, *, pickled: bool = False) -> str:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": vocab_size}))
    words = {f"w{number}": number for number in range(vocab_size)}
    tokenizer = {"model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"}}
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    if pickled:
        (path / "pytorch_model.bin").write_bytes(b"weights")
    else:
        weights = {"wte": numpy.zeros((vocab_size, 8), numpy.float32)}
        save_file(weights, path / "model.safetensors")
    return f"./{path.name}"


BOTH = {"choice": ["fixed", "cist"]}
BAD_DOCUMENTS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "unknown field": (
        {"trialz": 3},
        ("trialz: only known fields are allowed, but got 'trialz'. Did you mean 'trials'?",),
    ),
    "low above high": (
        {"search": {"tau": {"float": [8, 1]}}},
        ("search.tau: low <= high must hold, but got low=8.0, high=1.0. Swap them",),
    ),
    "log with zero": (
        {"search": {"tau": {"float": [0, 1], "log": True}}},
        ("search.tau: low > 0 must hold when log is true, but got low=0.0. Use a positive low",),
    ),
    "tau of zero": (
        {"search": {"tau": {"choice": [0, 1]}}},
        ("search.tau: 0.001 <= tau <= 1000.0 must hold, but got tau=0.0",),
    ),
    "rho below zero": (
        {"search": {"policy": {"fixed": "cist"}, "rho": {"float": [-2, 4]}}},
        ("search.rho: 0.001 <= rho <= 10000.0 must hold, but got rho=-2.0",),
    ),
    "tau under cist": (
        {"search": {"policy": BOTH, "tau": {"float": [1, 4]}}},
        (
            "search.tau: tau belongs to",
            "policy 'cist'",
            "Or write tau: {…, when: {policy: fixed}}.",
        ),
    ),
    "cist without a hard loss": (
        {
            "search": {"policy": {"fixed": "cist"}, "rho": {"float": [2, 4]}},
            "loss": {"hard_weight": 0},
        },
        ("loss.hard_weight: hard_weight > 0 must hold", "allow_free_logit_scale: true"),
    ),
    "no such field to search": (
        {"search": {"temperature": {"float": [1, 4]}}},
        (
            "search.temperature: a searched name must be a field of a trial, but got 'temperature'",
            "Did you mean 'tau'?",
        ),
    ),
}


@pytest.mark.parametrize("case", BAD_DOCUMENTS)
def test_a_wrong_document_is_refused(folder: Path, case: str) -> None:
    changes, parts = BAD_DOCUMENTS[case]
    assert_refused(plan(folder, document(**changes)), 2, *parts)


def test_two_search_entries_for_one_field(folder: Path) -> None:
    text = yaml.safe_dump(document(), sort_keys=False)
    doubled = text.replace("search:\n", "search:\n  tau:\n    float: [1, 2]\n")
    assert_refused(plan(folder, doubled), 2, "sweep.yaml, line ", "two entries for 'tau'", "Remove")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ("train.jsonl is missing",)),
        ("", ("at least one record must be there", "train.jsonl is empty")),
        ('{"instruction": "a", "output": "b"}\n{"instr', ("train.jsonl, line 2:", "but got")),
        ('{"instruction": "a"}\n', ("train.jsonl, line 1", "output")),
    ],
)
def test_bad_data_is_named_with_its_line(
    folder: Path, content: str | None, parts: tuple[str, ...]
) -> None:
    path = folder / "train.jsonl"
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert_refused(plan(folder, document()), 3, *parts)


def test_vocabularies_that_differ_are_refused_with_both_sizes(folder: Path) -> None:
    teacher = make_model(folder / "teacher", 900)
    student = make_model(folder / "student", 500)
    spec = document(teacher={"model": teacher}, student={"model": student})
    del spec["tokenizer"]
    assert_refused(plan(folder, spec), 3, "900", "500")


def test_a_folder_that_is_no_model_is_refused(folder: Path) -> None:
    (folder / "empty").mkdir()
    spec = document(teacher={"model": "./empty"})
    assert_refused(plan(folder, spec), 3, "teacher.model: ", "config.json is missing")


def test_pickled_weights_are_refused_unless_allowed(folder: Path) -> None:
    spec = document(teacher={"model": make_model(folder / "teacher", 300, pickled=True)})
    assert_refused(plan(folder, spec), 3, "teacher.model: ", "safetensors", "allow_pickle")
    assert plan(folder, spec, "--set", "teacher.allow_pickle=true").exit_code == 0


def test_more_than_the_machine_has_is_refused(folder: Path) -> None:
    spec = document(resources={"slots": 3})
    assert_refused(plan(folder, spec), 3, "cpus_per_worker <= 2", "but got 3 x 1 x 1 = 3. Lower")


def test_a_full_disk_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Resources(num_cpus=2, disk_free=10_000)
    monkeypatch.setattr(planning, "local_resources", lambda where: full)
    assert_refused(
        plan(folder, document()), 3, "storage.path: the free disk must hold", "Free some"
    )


def test_a_tracking_server_that_is_away_is_refused(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    plan(folder, document(tracking={"uri": f"http://127.0.0.1:{port}"}))
    result = call("run", "sweep.yaml")
    assert_refused(result, 5, f"127.0.0.1:{port}")


def test_an_unknown_spec_names_the_presets(folder: Path) -> None:
    assert_refused(
        call("plan", "temprature"), 2, "but got 'temprature'. Did you mean 'temperature'"
    )


def test_debug_shows_where_an_error_comes_from(folder: Path) -> None:
    result = call("--debug", "plan", "nowhere.yaml")
    assert type(result.exception).__name__ == "SpecError"


def test_plan_says_what_it_would_do(folder: Path) -> None:
    result = plan(folder, document())
    assert result.exit_code == 0, result.output
    for part in ("7: 3 searched, 4 controls", "float 0.5 to 8, log", "maximize rouge_l"):
        assert part in result.stdout


def test_plan_as_json_is_the_plan(folder: Path) -> None:
    first = json.loads(plan(folder, document(), "--json").stdout)
    again = json.loads(plan(folder, document(), "--json").stdout)
    assert first == again
    assert first["sweep_id"].startswith("cli-")
    assert first["search_space"] == [
        {"name": "tau", "domain": "float 0.5 to 8, log", "condition": ""}
    ]
    assert (first["num_trials"], first["slots"]) == (7, 2)
    assert first["facts"]["num_train_examples"] == 8


def test_overrides_change_the_plan(folder: Path) -> None:
    made = json.loads(plan(folder, document(), "--set", "trials=5", "--json").stdout)
    assert made["num_trials"] == 9


@pytest.fixture
def recorded(folder: Path) -> str:
    """The id of a sweep that was recorded in this test's home."""
    home = home_folder()
    sweep = plan_of()
    rows = [
        ({"divergence": "forward_kl", "tau": 1.0}, {"rouge_l": 10.0, "cross_entropy": 2.0}),
        ({"divergence": "reverse_kl", "tau": 2.0}, {"rouge_l": 30.0, "cross_entropy": 4.0}),
        ({"divergence": "forward_kl", "tau": 4.0}, {"rouge_l": 20.0, "cross_entropy": 3.0}),
    ]
    record_sweep(make_store(home), home, sweep, rows)
    return sweep.sweep_id


def test_sweeps_and_trials_are_listed(recorded: str) -> None:
    (sweep,) = rows_of("sweeps")
    assert (sweep["sweep_id"], sweep["state"]) == (recorded, "completed")
    for reference in (recorded, recorded[:6], "toy", "latest"):
        assert [row["trial"] for row in rows_of("trials", reference)] == [0, 1, 2]
    assert "forward_kl tau=1" in call("trials", "latest").stdout


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        ([], [1, 2, 0]),
        (["--metric", "cross_entropy"], [0, 2, 1]),
        (["--where", "divergence=forward_kl"], [2, 0]),
        (["--per", "divergence", "--top", "1"], [1, 2]),
        (["--top", "1"], [1]),
        (["--sweep", "all"], [1, 2, 0]),
    ],
)
def test_best_ranks_filters_and_groups(
    recorded: str, arguments: list[str], order: list[int]
) -> None:
    assert [row["trial"] for row in rows_of("best", *arguments)] == order


def test_best_shows_the_winner_under_each_metric(recorded: str) -> None:
    shown = call("best").stdout
    assert "trial 1: reverse_kl tau=2" in shown
    assert "trial 0: forward_kl tau=1" in shown


def test_best_marks_a_trial_whose_logit_scale_drifted(folder: Path) -> None:
    home = home_folder()
    rows = [
        ({"tau": 1.0}, {"rouge_l": 10.0, "logit_scale_ratio": 0.9}),
        ({"tau": 2.0}, {"rouge_l": 30.0, "logit_scale_ratio": 0.21}),
    ]
    sweep = plan_of()
    record_sweep(make_store(home), home, sweep, rows)
    first, second = rows_of("best")
    assert "0.21 times as large as the teacher's" in first["warning"]
    assert second["warning"] is None
    shown = call("best").stdout
    assert "tau=2 !" in shown and "tau=1 !" not in shown
    assert f"! {sweep.sweep_id}/1: the student's logits are 0.21 times" in shown


def test_best_exports_a_trial_that_can_be_trained_again(recorded: str, folder: Path) -> None:
    assert call("best", "--export", "trial.json").exit_code == 0
    trial = TrialFile.read(folder / "trial.json")
    assert (trial.trial, trial.config.divergence, trial.config.tau) == (1, "reverse_kl", 2.0)


def test_best_exports_into_a_new_file_alone(recorded: str, folder: Path) -> None:
    (folder / "mine.json").write_text("mine")
    for place, reason in (("mine.json", "it is there"), ("no/x.json", "its folder is not there")):
        result = call("best", "--export", place)
        assert result.exit_code == 3
        assert f"--export {place}: must be a new file in a folder that exists" in result.stderr
        assert reason in result.stderr
    assert (folder / "mine.json").read_text() == "mine"


@pytest.mark.parametrize("command", [["sweeps"], ["trials", "latest"], ["plan", "demo"]])
def test_a_home_that_is_a_file_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    (folder / "file").write_text("")
    monkeypatch.setenv("KD_SWEEP_HOME", str(folder / "file"))
    result = call(*command)
    assert result.exit_code == 3
    assert "is a file" in result.stderr and "Set KD_SWEEP_HOME" in result.stderr


def test_compare_shows_only_what_differs(recorded: str) -> None:
    result = call("compare", f"{recorded}/0", f"{recorded}/2", "--json")
    found = json.loads(result.stdout)
    assert found["differs"] == {"tau": [1.0, 4.0]}
    assert found["metrics"]["rouge_l"] == [10.0, 20.0]
    assert "cross_entropy" in call("compare", f"{recorded}/0", f"{recorded}/2").stdout


@pytest.mark.parametrize(
    ("arguments", "exit_code", "part"),
    [
        (("trials", "nosuch"), 5, "sweep 'nosuch': must be an id"),
        (("best", "--metric", "rouge"), 2, "--metric: must be one of rouge_l"),
        (("best", "--where", "tua=2"), 2, "where: field must be"),
        (("compare", "latest/0"), 2, "compare: two runs or more must be named, but got 1"),
        (("compare", "latest/0", "latest/9"), 5, "run 'latest/9'"),
    ],
)
def test_questions_without_an_answer_are_explained(
    recorded: str, arguments: tuple[str, ...], exit_code: int, part: str
) -> None:
    assert_refused(call(*arguments), exit_code, part)


def test_an_empty_record_says_so(folder: Path) -> None:
    make_store(home_folder())
    assert rows_of("sweeps") == []
    assert_refused(call("best"), 5, "no sweep is recorded", "Run one first")


def test_presets_are_listed_and_printed() -> None:
    assert {row["name"] for row in rows_of("presets")} >= {"demo", "temperature", "cist"}
    assert call("presets", "cist").stdout.startswith("# CIST")


def test_schema_and_starter_are_documents(folder: Path) -> None:
    schema = json.loads(call("schema").stdout)
    starter = yaml.safe_load(call("init").stdout)
    assert set(starter) <= set(schema["properties"])
    assert set(starter["search"]) <= set(schema["properties"]["search"]["properties"])


@pytest.mark.parametrize("command", VISIBLE)
def test_every_command_has_help_with_an_example(command: str) -> None:
    shown = call(command, "--help")
    assert shown.exit_code == 0
    assert f"Example: kd-sweep {command}" in " ".join(shown.stdout.split())


def test_rho_range_proposes_a_range_with_its_table_and_picture(folder: Path) -> None:
    model = {"config": CONFIG | {"n_positions": 256}}
    data = document()["data"] | {"max_tokens": 256, "max_prompt_tokens": 224}
    sweep = document(teacher=model, student=model, data=data)
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    shown = call("rho-range", "sweep.yaml", "--json")
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    log_vocab = found["log_vocab"]
    assert found["rho"] == pytest.approx([c * log_vocab for c in found["rho_per_log_vocab"]])
    assert 0 < found["rho"][0] < found["rho"][1]
    assert {row["policy"] for row in found["rows"]} == {"cist", "fixed"}
    # A teacher that was never trained is as good as uniform at tau = 1.
    (plain,) = [row for row in found["rows"] if row["tau"] == 1.0]
    assert plain["share_of_log_vocab"] == pytest.approx(1.0, abs=0.01)
    assert "proposed range" in Path(found["picture"]).read_text()


def test_a_full_or_protected_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/somewhere/plan.json")

    def no_room(*_: object, **__: object) -> None:
        raise full

    monkeypatch.setattr("service.actions.plan.plan_sweep", no_room)
    result = call("plan", "demo")
    assert result.exit_code == 3
    assert "No space left on device: '/somewhere/plan.json'. Free space" in result.output
    full.errno = errno.EIO  # of which nobody can say what to do
    assert call("plan", "demo").exception is full
