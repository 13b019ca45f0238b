"""Texts that are no sweep: refused at once, with the file, and the line where there is one."""

import time
from pathlib import Path

import pytest

from service.errors import SpecError
from service.spec.file import apply_override, read_document
from service.spec.yaml_text import DEEPEST, MOST_CHARACTERS, read_yaml

LAUGHS = "a0: &a0 [1, 2]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12)
)
CASES = [
    ("name: x\n".encode("utf-16"), r"s\.yaml, line 1: must be text in UTF-8, .*the byte 0xff"),
    (b"name: x\ntask: \xe9t\xe9\n", r"s\.yaml, line 2: must be text in UTF-8, .*the byte 0xe9"),
    (b"\x7fELF\x02\x01\x01\x00", r"s\.yaml, line 1: must be printable text, but got the character"),
    (b"name: a\nname2: b\x07c\n", r"s\.yaml, line 2: must be printable text, .*'\\x07'"),
    (b"name: a\n\x00", r"s\.yaml, line 2: must be printable text, .*'\\x00'"),
    (b"name: a\nx: !!python/name:os.system\n", r"s\.yaml, line 2: could not determine a constr"),
    (b"x: !!binary aGk=\n", r"s\.yaml, line 1: could not determine a constructor for the tag"),
    (b"x: !!timestamp 2020-01-01\n", r"s\.yaml, line 1: could not determine a constructor"),
    (b"x: !!set {a, b}\n", r"s\.yaml, line 1: could not determine a constructor"),
    (b"x: !mine 3\n", r"s\.yaml, line 1: could not determine a constructor for the tag '!mine'"),
    (b"a: 1\nx: !!int many\n", r"s\.yaml, line 2: 'many' is no whole number"),
    (b"x: !!int ''\n", r"s\.yaml, line 1: '' is no whole number"),
    (b"x: !!float many\n", r"s\.yaml, line 1: 'many' is no number"),
    (b"x: !!bool maybe\n", r"s\.yaml, line 1: 'maybe' is no true or false"),
    (b"x: !!map [1]\n", r"s\.yaml, line 1: "),
    (b"x: !!seq {a: 1}\n", r"s\.yaml, line 1: "),
    (b"x: !!str [1]\n", r"s\.yaml, line 1: "),
    (b"a: 1\n? [b, c]\n: 2\n", r"s\.yaml, line 2: a name must be text, but got a list"),
    (b"{{a: 1}: 2}", r"s\.yaml, line 1: a name must be text"),
    (b"a: 1\nx: " + b"9" * 5000, r"s\.yaml, line 2: '9+…' is no whole number that can be read"),
    (b"x: " + b"[" * 3000 + b"]" * 3000, r"s\.yaml.*: values may be nested 50 deep"),
    (b"x: " + b"{a: " * 3000 + b"1" + b"}" * 3000, r"s\.yaml.*: values may be nested 50 deep"),
    (b"x: " + b"[" * 200 + b"]" * 200, r"s\.yaml, line 1: values may be nested 50 deep"),
    (LAUGHS.encode(), r"s\.yaml, line 6: a sweep may have 50,000 values, aliases resolved"),
    (MERGES.encode(), r"s\.yaml, line \d: a sweep may have 50,000 values, aliases resolved"),
    (b"a: &a [*a]\n", r"s\.yaml, line 1: a value may not hold itself"),
    (b"a: &a {b: *a}\n", r"s\.yaml, line 1: a value may not hold itself"),
    (
        b"a0: &a0 [1]\n" + b"".join(b"a%d: &a%d [*a%d]\n" % (n, n, n - 1) for n in range(1, 80)),
        r"s\.yaml, line \d+: values may be nested 50 deep",
    ),
    (b"a: *b\n", r"s\.yaml, line 1: found undefined alias"),
    (b"a: [1, 2\nb: 3\n", r"s\.yaml, line 2: "),
    (b"a: \"x\n", r"s\.yaml, line 2: "),
    (b"\ta: 1\n", r"s\.yaml, line 1: "),
    (b'a: 1\nb: "\\ud800"\n', r"s\.yaml, line 2: text must have complete characters"),
    (b"a: 1\n---\nb: 2\n", r"s\.yaml, line 2: "),
    (b"%YAML 9.9\n---\na: 1\n", r"s\.yaml, line 1: "),
    (b"a: \"\\ud800\"\nb: \"\\q\"", r"s\.yaml, line 2: "),
    (b"- 1\n", r"s\.yaml: a sweep must be a mapping of names to values, but got \[1\]"),
    (b"", r"s\.yaml: a sweep must be a mapping of names to values, but got None"),
    (b"x" * (MOST_CHARACTERS + 1), r"s\.yaml: must have at most 262,144 characters"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "message"), CASES)
def test_it_is_refused_with_its_place(tmp_path: Path, raw: bytes, message: str) -> None:
    (tmp_path / "s.yaml").write_bytes(raw)
    started = time.perf_counter()
    with pytest.raises(SpecError, match=message) as caught:
        read_document("s.yaml", tmp_path)
    assert len(str(caught.value)) < 600
    assert time.perf_counter() - started < 5


def test_what_is_allowed_stays_what_it_is() -> None:
    text = "a: &a [1, 5e-4, on, 1.5, true, null, '2']\nb: *a\nc: {<<: {x: !!str 1}, y: 0o7}\n"
    listed = [1, 5e-4, "on", 1.5, True, None, "2"]
    expected = {"a": listed, "b": listed, "c": {"x": "1", "y": "0o7"}}
    assert read_yaml(text, "s") == expected
    deep = "x: " + "[" * (DEEPEST - 2) + "]" * (DEEPEST - 2)
    assert list(read_yaml(deep, "s")) == ["x"]


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"\xef\xbb\xbfname: x\n")
    assert read_document("s.yaml", tmp_path) == {"name": "x"}


def test_the_largest_document_is_read_within_seconds() -> None:
    line = "a{}: 1\n"
    text = "".join(line.format(index) for index in range(24_000))
    assert len(text) <= MOST_CHARACTERS
    started = time.perf_counter()
    assert len(read_yaml(text, "s")) == 24_000
    assert time.perf_counter() - started < 20  # pure Python, on a machine that does other work too


@pytest.mark.parametrize(
    "reference", ["~nobody-of-that-name/s.yaml", "a\0b", "x" * 5000, "\ud800", "é" * 200]
)
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, reference: str) -> None:
    with pytest.raises(SpecError, match="SPEC: must be a") as caught:
        read_document(reference, tmp_path)
    str(caught.value).encode()
    assert len(str(caught.value)) < 9000


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.yaml").write_text("a: 1")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(SpecError, match=r"SPEC: must be a file that can be read, .*s.yaml.*denied"):
        read_document("s.yaml", tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a=[", r"--set a: the value must be YAML, but got '\['"),
        ("a=!!int x", r"--set a: the value must be YAML, but got '!!int x' \('x' is no whole"),
        ("a=" + "9" * 5000, r"--set a: the value must be YAML"),
        ("a=" + "[" * 3000, r"--set a: the value must be YAML"),
        ("a=\x00", r"--set a: the value must be YAML, but got '\\x00'"),
        ("a=\ud800", r"--set a: the value must be YAML, but got '\\ud800'"),
        (".".join("a" * 3000) + "=1", r"--set: must be written a\.b=value"),
        ("=1", r"--set: must be written a\.b=value, but got '=1'"),
        ("a..b=1", r"--set: must be written a\.b=value"),
        ("a", r"--set: must be written a\.b=value, but got 'a'"),
        ("n.x=1", r"--set n\.x: n must hold a mapping, but got 3"),
    ],
)
def test_an_override_is_refused(override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        apply_override({"n": 3}, override)
    str(caught.value).encode()
    assert len(str(caught.value)) < 600
