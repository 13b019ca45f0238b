"""Whether what a study tuned for each cell lies at an end of the list that it tried. Pure."""

from collections.abc import Mapping, Sequence

from search_spaces.domains import Choice
from service.record.records import RunRecord
from service.results.edges import edge_of
from service.results.findings import TunedAtEdge


def tuned_at_edges(
    configs: Mapping[str, Sequence[RunRecord]], tuning: Sequence[RunRecord], *, first: str
) -> TunedAtEdge | None:
    """Returns which of the configs' tuned values are the smallest or the largest of those that
    `tuning` tried, three or more, `first` before the others; None where none is."""
    name = next((one.tuned for one in tuning), None)
    if name is None:
        return None
    tried = {float(one.config[name]) for one in tuning}
    domain = Choice(choice=tuple(sorted(tried)))
    values = {config: trials[0].config.get(name) for config, trials in configs.items()}
    ends = {
        config: edge.end for config, value in values.items() if (edge := edge_of(value, domain))
    }
    if not ends:
        return None
    order = sorted(ends, key=lambda config: config != first)
    cells = tuple((config, ends[config]) for config in order)
    return TunedAtEdge(name, cells, len(configs), min(tried), max(tried))
