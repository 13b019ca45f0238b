"""Reading instruction data: what is taken, and what is refused with file, line and field."""

import json
from pathlib import Path
from typing import Any

import pytest
from training_support import write_lines

from trainers.tasks.causal_lm import records
from trainers.trial.sources import DataSource


def source(path: Path | str, **changed: Any) -> DataSource:
    return DataSource(train=str(path), validation=str(path), **changed)


def read(path: Path | str, tmp_path: Path, **changed: Any) -> list[records.Record]:
    return records.read(source(path, **changed), "train", tmp_path)


GOOD_WITH = '{"instruction": "a", "output": "b", "references": %s}'
GOOD = {"instruction": "Say hi", "input": "", "output": "hi"}


def test_a_line_becomes_a_record_with_its_references(tmp_path: Path) -> None:
    rows = [GOOD, {**GOOD, "input": "in French", "references": ["salut", "bonjour"]}]
    first, second = read(write_lines(tmp_path / "d.jsonl", rows), tmp_path)
    assert (first.instruction, first.input, first.answers) == ("Say hi", "", ("hi",))
    assert (second.input, second.answers) == ("in French", ("salut", "bonjour"))


def test_columns_have_the_users_names_and_the_limit_is_kept(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d.jsonl", [{"q": f"{i}", "a": "yes"} for i in range(5)])
    columns = {"instruction": "q", "response": "a"}
    rows = read(path, tmp_path, columns=columns, max_train_examples=2)
    assert [row.instruction for row in rows] == ["0", "1"]


def test_blank_lines_are_no_records(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("\n" + json.dumps(GOOD) + "\n\n")
    assert len(read(tmp_path / "d.jsonl", tmp_path)) == 1


@pytest.mark.parametrize(
    ("second_line", "message"),
    [
        ("{not json", r"d.jsonl, line 2: each line must be one JSON object, but got '\{not json'"),
        ("[1]", r"d.jsonl, line 2: a record must be an object, but got list"),
        ('{"instruction": "a", "output": " "}', r"line 2: the response 'output' must not be blank"),
        ('{"instruction": "a"}', r"line 2: 'output' must be text, but got the columns"),
        ('{"instruction": 3, "output": "b"}', r"line 2: 'instruction' must be text, but got int"),
        ('{"instruction": "a", "output": null}', r"line 2: 'output' must be text, but got null"),
        ('{"instruction": "a", "output": ["b"]}', r"line 2: 'output' must be text, but got list"),
        ('{"instruction": "a", "output": true}', r"line 2: 'output' must be text, but got bool"),
        ('{"instruction": "a", "output": NaN}', r"line 2: 'output' must be text, but got float"),
        ('{"instruction": "a", "output": "b", "input": 0}', r"line 2: 'input' must be text, but"),
        (GOOD_WITH % '"Paris"', r"line 2: 'references' must be a list, but got str 'Paris'"),
        (GOOD_WITH % '""', r"line 2: 'references' must be a list, but got str ''"),
        (GOOD_WITH % "5", r"line 2: 'references' must be a list, but got int 5"),
        (GOOD_WITH % "false", r"line 2: 'references' must be a list, but got bool False"),
        (GOOD_WITH % '{"a": "b"}', r"line 2: 'references' must be a list, but got dict"),
        (GOOD_WITH % '["a", 1]', r"line 2: 'references\[1\]' must be text, but got int 1"),
        (GOOD_WITH % '["a", null]', r"line 2: 'references\[1\]' must be text, but got null"),
        (GOOD_WITH % '[["a"]]', r"line 2: 'references\[0\]' must be text, but got list"),
        (GOOD_WITH % r'["\ud83d"]', r"line 2: 'references\[0\]' must be text of whole characters"),
        (r'{"instruction": "a", "output": "b\ude00"}', r"line 2: .*'output' must be text of whole"),
        (
            r'{"instruction": "\ud83d", "output": "b"}',
            r"'instruction' must be .* whole .*'\\ud8",
        ),
        (
            '{"output": "a", "output": "b"}',
            r"line 2: each .* be in an object once, but got 'output'",
        ),
        ("1" * 5000, r"line 2: each line must be one JSON object, but got '111"),
        ("[" * 100_000, r"line 2: each line must be one JSON object, but got '\[\[\["),
        (
            '{"output": "b", "messages": []}',
            r"data.columns, or take .*: data.template: chat",
        ),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, second_line: str, message: str) -> None:
    (tmp_path / "d.jsonl").write_text(json.dumps(GOOD) + "\n" + second_line + "\n")
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "d.jsonl", tmp_path)


def test_a_missing_file_is_named_with_what_could_be_given(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data.train: the file must exist, but .*nowhere.jsonl"):
        read(tmp_path / "nowhere.jsonl", tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"data.train: at least one record must be there"):
        read(tmp_path / "d.jsonl", tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"must be UTF-8 text, but got a wrong byte at 0"):
        read(tmp_path / "d.jsonl", tmp_path)


def test_another_builtin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is builtin:docstrings, but got 'builtin:poems'"):
        read("builtin:poems", tmp_path)


def test_a_hub_data_set_without_a_network_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'nobody/nothing' is no file here and could not be"):
        read("nobody/nothing", tmp_path)
    with pytest.raises(ValueError, match=r"hub \(split 'train', config 'en'\)"):
        read("nobody/nothing", tmp_path, config_name="en")


def test_a_hub_data_set_is_read_by_config_and_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(place: str, config: str | None, *, split: str) -> list[dict[str, Any]]:
        assert (place, config, split) == ("owner/name", "en", "validation")
        return [{"prompt": "Say hi", "completion": "hi"}, {"prompt": "Say ho", "completion": 3}]

    monkeypatch.setattr("datasets.load_dataset", load)
    asked = source("owner/name", config_name="en")
    message = r"owner/name, split validation, row 1: 'completion' must be text, but got int 3"
    with pytest.raises(ValueError, match=message):
        records.read(asked, "validation", tmp_path)


def test_a_conversation_has_references_too(tmp_path: Path) -> None:
    row = {"messages": [ANSWER], "references": ["ho", "hey"]}
    (record,) = read(write_lines(tmp_path / "d.jsonl", [row]), tmp_path, template="chat")
    assert record.answers == ("ho", "hey")
    path = write_lines(tmp_path / "d.jsonl", [row | {"references": "ho"}])
    with pytest.raises(ValueError, match=r"line 1: 'references' must be a list, but got str 'ho'"):
        read(path, tmp_path, template="chat")


def test_a_conversation_must_end_with_the_assistant(tmp_path: Path) -> None:
    asked, answered = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}
    good = write_lines(tmp_path / "good.jsonl", [{"messages": [asked, answered]}])
    record = read(good, tmp_path, template="chat")[0]
    assert (record.instruction, record.response) == ("hi", "ho")
    bad = write_lines(tmp_path / "bad.jsonl", [{"messages": [asked]}])
    with pytest.raises(ValueError, match=r"line 1: messages must end with the assistant's answer"):
        read(bad, tmp_path, template="chat")


ANSWER = {"role": "assistant", "content": "ho"}


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("hi", r"line 1: 'messages' must be a list of .* but got str 'hi'"),
        ({"role": "user", "content": "hi"}, r"line 1: 'messages' must be a list .* but got dict"),
        ([ANSWER, "hi"], r"line 1: 'messages\[1\]' must be \{role, content\} .* but got str 'hi'"),
        (
            [{"role": "user", "content": 3}, ANSWER],
            r"'messages\[0\].content' must be text",
        ),
        (
            [{"role": 3, "content": "a"}, ANSWER],
            r"'messages\[0\].role' must be text, but got",
        ),
        ([{"role": "user"}, ANSWER], r"'messages\[0\].content' must be given, but it is missing"),
        ([{"content": "a"}, ANSWER], r"'messages\[0\].role' must be given, but it is missing"),
        (
            [{"role": "user", "content": [{"type": "image"}]}, ANSWER],
            r"content\[0\]' must be \{type: text, text\}",
        ),
        (
            [{"role": "user", "content": "\ud83d"}, ANSWER],
            r"\[0\].content' must be text of whole",
        ),
        (
            [{"from": "alien", "value": "a"}, ANSWER],
            r"'messages\[0\].from' must be one of .*al",
        ),
        ([{"from": 3, "value": "a"}, ANSWER], r"'messages\[0\].from' must be text, but got int 3"),
        (
            [{"from": "gpt", "value": 3}, ANSWER],
            r"'messages\[0\].value' must be text, .* int 3",
        ),
        ([{"from": "gpt"}, ANSWER], r"'messages\[0\].value' must be text, but got null"),
        (
            [ANSWER | {"tool_calls": "now"}],
            r"'messages\[0\].tool_calls' must be a list",
        ),
        ([ANSWER | {"tool_calls": [{"a": "\ud83d"}]}], r"tool_calls' must be text of whole char"),
        ([ANSWER | {"name": 1}], r"'messages\[0\].name' must be text, but got int 1"),
        ([ANSWER | {"content": " "}], r"line 1: messages must end with the assistant's answer"),
        ([], r"line 1: messages must end with the assistant's answer, but got the roles \[\]"),
    ],
)
def test_a_wrong_message_is_named(tmp_path: Path, messages: Any, message: str) -> None:
    path = write_lines(tmp_path / "d.jsonl", [{"messages": messages}])
    with pytest.raises(ValueError, match=message):
        read(path, tmp_path, template="chat")


@pytest.mark.parametrize("tools", ["now", "[1]", 3, [3], {"a": 1}, r'[{"a": "\ud83d"}]'])
def test_wrong_tools_are_named(tmp_path: Path, tools: Any) -> None:
    path = write_lines(tmp_path / "d.jsonl", [{"messages": [ANSWER], "tools": tools}])
    with pytest.raises(ValueError, match=r"line 1: 'tools(\[0\])?' must be"):
        read(path, tmp_path, template="chat")


def test_a_prompt_of_messages_needs_a_completion_of_messages(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d.jsonl", [{"prompt": [ANSWER], "completion": "ho"}])
    with pytest.raises(ValueError, match=r"line 1: 'completion' must be a list of .* but got str"):
        read(path, tmp_path, template="chat")


@pytest.mark.parametrize("character", "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e\r\t")
def test_a_character_inside_a_text_is_data(tmp_path: Path, character: str) -> None:
    text = f"a{character}b"
    escaped = json.dumps(GOOD | {"output": text}, ensure_ascii=False)
    raw = escaped.replace(json.dumps(character, ensure_ascii=False)[1:-1], character)
    (tmp_path / "d.jsonl").write_bytes(f"{escaped}\r\n{raw}\r\n{escaped}".encode("utf-8-sig"))
    assert [row.response for row in read(tmp_path / "d.jsonl", tmp_path)] == [text] * 3


@pytest.mark.parametrize("name", ["./nothing", "/no/train.parquet", "data/trian.txt", "a/b/c"])
def test_a_path_that_is_not_there_is_no_hub_name(tmp_path: Path, name: str) -> None:
    for ask in (lambda: read(name, tmp_path), lambda: records.fingerprint(source(name), "train")):
        with pytest.raises(ValueError, match=r"data.train: the file must exist, but .* is missing"):
            ask()


def test_a_url_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data.train: it must be a file, .* Download it first"):
        read("s3://bucket/train.jsonl", tmp_path)


def test_real_dolly_reads(shared_data: Path, tmp_path: Path) -> None:
    rows = read(shared_data / "train" / "dolly_validation.jsonl", tmp_path)
    assert len(rows) == 999
    assert all(row.response.strip() and row.instruction.strip() for row in rows)


def test_the_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    one = write_lines(tmp_path / "one.jsonl", [GOOD])
    same = write_lines(tmp_path / "same.jsonl", [GOOD])
    other = write_lines(tmp_path / "other.jsonl", [GOOD, GOOD])
    prints = [records.fingerprint(source(path), "train") for path in (one, same, other)]
    assert prints[0] == prints[1] != prints[2]
