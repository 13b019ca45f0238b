"""What is found of records, for tests."""

from typing import Any

from service.record.records import RunRecord
from service.results.evidence import Evidence
from service.results.findings import Finding
from service.results.report import report

SPACE = {
    "divergence": {"choice": ["forward_kl", "reverse_kl"]},
    "tau": {"float": [0.5, 8], "log": True},
    "hard_weight": {"choice": [0.1, 0.3, 0.5]},
    "seed": {"int": [0, 4]},
}


def evidence(records: list[RunRecord], metric: str = "rouge_l", **known: Any) -> Evidence:
    way = "minimize" if metric == "cross_entropy" else "maximize"
    return Evidence(tuple(records), ((metric, way),), **known)


def found(kind: type[Finding], records: list[RunRecord], **known: Any) -> Any:
    """The first finding of that kind, or None."""
    all_found = report(evidence(records, **known))
    return next((one for one in all_found if isinstance(one, kind)), None)
