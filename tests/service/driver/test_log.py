"""What drivers leave in their sweep's folder, and what is asked of them there."""

import shutil
from pathlib import Path

import pytest

from service.driver.lock import sweep_lock
from service.driver.log import LogPart, driver_log, log_lines, log_part
from service.driver.requests import ask_to_stop, asked_to_stop, clear_requests
from service.events import Notice, to_line
from service.plan.places import logs_folder, requests_folder

FIRST, SECOND = Notice("one"), Notice("two \udc80")


def test_each_driver_has_a_log_of_its_own_and_the_newest_is_read(tmp_path: Path) -> None:
    assert list(log_lines(tmp_path)) == []
    for number in range(11):
        with driver_log(tmp_path) as write:
            write(Notice(str(number)))
    assert list(log_lines(tmp_path)) == [to_line(Notice("10"))]
    assert len(list(logs_folder(tmp_path).iterdir())) == 11


def test_the_error_that_ends_a_driver_is_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), driver_log(tmp_path) as write:
        write(SECOND)
        raise OSError("the disk is full")
    assert list(log_lines(tmp_path)) == [to_line(SECOND), "error: the disk is full"]


def test_a_log_that_cannot_be_written_ends_no_sweep(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with driver_log(tmp_path) as write:
        shutil.rmtree(logs_folder(tmp_path))
        write(FIRST)
    assert "the driver's log misses a line" in caplog.text


def test_a_log_is_followed_until_its_driver_ends_or_another_one_comes(tmp_path: Path) -> None:
    with sweep_lock(tmp_path):
        with driver_log(tmp_path) as write:
            write(FIRST)
            lines = log_lines(tmp_path, follow=True)
            assert next(lines) == to_line(FIRST)
            write(SECOND)
            assert next(lines) == to_line(SECOND)
        with driver_log(tmp_path) as write:
            write(FIRST)
            assert list(lines) == [], "what comes now is the next one's"


def test_what_a_driver_was_asked_for_is_forgotten_by_the_next(tmp_path: Path) -> None:
    assert asked_to_stop(tmp_path) == {}
    files = [ask_to_stop(tmp_path), ask_to_stop(tmp_path, 7), ask_to_stop(tmp_path, 7)]
    (requests_folder(tmp_path) / "stop-trial-x").touch()
    assert asked_to_stop(tmp_path) == {files[0]: None, files[1]: 7}
    clear_requests(tmp_path)
    assert asked_to_stop(tmp_path) == {}


def test_a_log_is_read_part_after_part(tmp_path: Path) -> None:
    assert log_part(tmp_path) == LogPart([], "")
    with sweep_lock(tmp_path), driver_log(tmp_path) as write:
        write(Notice("one"))
        first = log_part(tmp_path)
        assert first.lines == [to_line(Notice("one"))]
        assert log_part(tmp_path, first.place) == LogPart([], first.place)
        write(Notice("two"))
        assert log_part(tmp_path, first.place).lines == [to_line(Notice("two"))]
        newest = next(logs_folder(tmp_path).iterdir())
        with newest.open("a") as file:
            file.write("half a li")
        half = log_part(tmp_path, first.place)
        assert half.lines == [to_line(Notice("two"))]
        with newest.open("a") as file:
            file.write("ne\n")
        assert log_part(tmp_path, half.place).lines == ["half a line"]


@pytest.mark.parametrize("place", ["nonsense", "7:3", "1:-4", "1:x", ":", "1"])
def test_from_a_place_in_another_log_it_is_read_whole(tmp_path: Path, place: str) -> None:
    with sweep_lock(tmp_path), driver_log(tmp_path) as write:
        write(Notice("one"))
    assert log_part(tmp_path, place).lines == [to_line(Notice("one"))]
