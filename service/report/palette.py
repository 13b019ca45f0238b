"""The report's colours by what they mean, on light and on dark pages. The series are Okabe and
Ito's, told apart with every kind of colour vision, lighter where the page is dark."""

from typing import Any

LIGHT = {
    "page": "#ffffff",
    "panel": "#f5f5f2",
    "ink": "#1b1b1b",
    "soft": "#5c5c5c",
    "rule": "#d8d8d4",
    "grid": "#ebebe8",
    "accent": "#005f94",
    "good": "#00694c",
    "doubt": "#9a4a00",
    "series-0": "#0072b2",
    "series-1": "#d55e00",
    "series-2": "#009e73",
    "series-3": "#cc79a7",
    "series-4": "#e69f00",
    "series-5": "#56b4e9",
    "series-6": "#7f5f2a",
    "other": "#9b9b97",
    # From the worst fifth of trials to the best: Cividis, without its darkest and palest ends.
    "rank-0": "#b9b7ae",
    "rank-1": "#c9a227",
    "rank-2": "#8f8a5a",
    "rank-3": "#4a6f8f",
    "rank-4": "#00336e",
}
DARK = {
    "page": "#16181b",
    "panel": "#1f2226",
    "ink": "#e8e8e4",
    "soft": "#a8aaad",
    "rule": "#3a3e43",
    "grid": "#2a2d31",
    "accent": "#7cc0ee",
    "good": "#5fd0a6",
    "doubt": "#f0a460",
    "series-0": "#4fa8e0",
    "series-1": "#ff8a4c",
    "series-2": "#2fc49a",
    "series-3": "#e79bc8",
    "series-4": "#f2bb45",
    "series-5": "#9ad6f7",
    "series-6": "#c7a86a",
    "other": "#7d8085",
    "rank-0": "#4b4e53",
    "rank-1": "#4a6f8f",
    "rank-2": "#8f8a5a",
    "rank-3": "#d0ae3a",
    "rank-4": "#ffe873",
}
NUM_SERIES = 7
NUM_RANKS = 5


def colour(name: str) -> str:
    """Returns what stands for a colour in a chart until it is drawn."""
    return f"var(--{name})"


def resolved(figure: Any, colours: dict[str, str]) -> Any:
    """Returns a chart's figure with colours in the place of their names."""
    if isinstance(figure, dict):
        return {key: resolved(value, colours) for key, value in figure.items()}
    if isinstance(figure, list | tuple):
        return [resolved(value, colours) for value in figure]
    if isinstance(figure, str) and figure.startswith("var(--"):
        return colours[figure.removeprefix("var(--").removesuffix(")")]
    return figure
