"""What Prometheus reads: counted from what the service did."""

from api_support import PLAN, Service
from prometheus_client.parser import text_string_to_metric_families

MINE = PLAN.sweep_id


def numbers(served: Service) -> dict[tuple[str, ...], float]:
    """Each number by its name and labels."""
    answer = served("root", "GET", "/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    return {
        (one.name, *(one.labels[name] for name in sorted(one.labels))): one.value
        for family in text_string_to_metric_families(answer.text)
        for one in family.samples
    }


def test_requests_are_counted_by_route_and_status(fresh: Service) -> None:
    for user in ("anna", "anna", "otto"):
        fresh(user, "GET", f"/api/v1/sweeps/{MINE}/status")
    fresh("anna", "POST", f"/api/v1/sweeps/{MINE}/resume")
    fresh(None, "BREW", "/coffee/secret")
    found, name = numbers(fresh), "kd_sweep_request_seconds_count"
    path = "/api/v1/sweeps/{sweep}/status"
    assert found[name, "GET", path, "200"] == 2
    assert found[name, "GET", path, "404"] == 1
    assert found[name, "POST", "/api/v1/sweeps/{sweep}/resume", "200"] == 1
    assert [key for key in found if key[0] == name and "other" in key] == [
        (name, "other", "other", "404")
    ]
    assert 0 < found["kd_sweep_request_seconds_sum", "GET", path, "200"] < 60


def test_sweeps_are_counted_by_state(fresh: Service) -> None:
    before = numbers(fresh)
    assert before["kd_sweep_sweeps", "completed"] == 3
    assert (before["kd_sweep_sweeps", "pending"], before["kd_sweep_waiting",]) == (0, 0)
    fresh("anna", "POST", f"/api/v1/sweeps/{MINE}/resume")
    after = numbers(fresh)
    assert after["kd_sweep_waiting",] == 1
    assert (after["kd_sweep_sweeps", "completed"], after["kd_sweep_sweeps", "pending"]) == (2, 1)
