"""The best of some trials. Pure."""

from collections import Counter
from collections.abc import Iterable

from service.record.conditions import check_group, group_of
from service.record.metric_names import plain_name
from service.record.records import RunRecord


def ranked(
    records: Iterable[RunRecord], metric: str, direction: str, *, top: int, per: str | None = None
) -> list[RunRecord]:
    """Returns the `top` trials (of each value of the hyperparameter `per`) by the metric's last
    value, the best first and of equals the earlier; those without a finite value are left out.
    direction: maximize | minimize. Raises `SpecError` for a `per` that is no field."""
    check_group(per)
    name = plain_name(metric)
    sign = -1 if direction == "maximize" else 1
    values = ((record.metric(name), record) for record in records)
    found = [(sign * value, record) for value, record in values if value is not None]
    found.sort(key=lambda one: (one[0], one[1].started_at))
    counts: Counter[str] = Counter()
    chosen = []
    for _, record in found:
        group = group_of(record, per) if per else ""
        counts[group] += 1
        if counts[group] <= top:
            chosen.append(record)
    return chosen
