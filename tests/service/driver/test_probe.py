from pathlib import Path

import pytest

from service.driver import probe
from service.driver.probe import check_storage_is_shared, check_store_answers, sees
from service.errors import PlanError

# Ray is imported by name only when a test runs: it reads its environment once a process, and a
# sweep's session sets that first.
NODES = [
    {"NodeID": "a", "NodeManagerAddress": "10.0.0.1", "Alive": True},
    {"NodeID": "b", "NodeManagerAddress": "10.0.0.2", "Alive": True},
    {"NodeID": "c", "NodeManagerAddress": "10.0.0.3", "Alive": False},
]


def test_a_node_that_does_not_see_the_storage_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answers(path: str, nodes: list[str]) -> dict[str, bool]:
        asked.extend(nodes)
        assert sees(path), "the file is there while the nodes look"
        return {"a": True, "b": False}

    monkeypatch.setattr("ray.nodes", lambda: NODES)
    monkeypatch.setattr(probe, "_answers", answers)
    with pytest.raises(PlanError, match=r"every node must see .*, but 10\.0\.0\.2 did not"):
        check_storage_is_shared(tmp_path)
    assert asked == ["a", "b"], "dead nodes are not asked"
    assert list(tmp_path.iterdir()) == [], "the probe leaves nothing"


def test_a_store_that_a_url_names_is_tried_out(tmp_path: Path) -> None:
    check_store_answers(f"file://{tmp_path}/store")
    assert list((tmp_path / "store").iterdir()) == []
    with pytest.raises(PlanError, match=r"no-such://x must take .*, but got ValueError"):
        check_store_answers("no-such://x")


def test_one_node_shares_with_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.nodes", lambda: NODES[:1])
    check_storage_is_shared(tmp_path)


def test_a_file_of_another_machine_is_not_seen(tmp_path: Path) -> None:
    assert not sees(str(tmp_path / "probe-1"))
    (tmp_path / "probe-1").write_text("probe-2")
    assert not sees(str(tmp_path / "probe-1"))
