"""Documents that are almost right: strategies that change one in random places, and the check that
whatever comes of it comes soon and is an error of ours."""

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

LONGEST_S = 5

NASTY: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 0.0, -0.0, 0.1 + 0.2, 0.3, 1e-320, 5e-324, 1e-9, 1e15,
    1.7e308, -1e308, float("inf"), float("-inf"), float("nan"), 2**31, 2**53, 2**53 + 1,
    2**63, 2**64, 10**400, -(10**400), "", " ", "0", "1", "1e999", "nan", "null", "auto", "none",
    "all", "latest", "builtin:docstrings", "builtin:nothing", "s3://bucket/x", "://", "sqlite", "sqlite:///x.db",
    "../..", "~", "~nobody", "/", ".", "a\0b", "a\nb", "\x1b[31m", "\u2028", "\ufeff", "\ud800",
    "é" * 300, "x" * 5000, "a:b", "module:function", "{x}", "{0}", "{instruction", "%s",
    "forward_kl", "cist", "fixed", "grid", "tpe", "float32", [], [[]], [1], [1, 2], [2, 1], [0, 1],
    [1, 1.0, True], [None], ["a", "b"], [0.1, 0.5], [1e15, 1.7e308], [-1e308, 1e308], [1, 10**400],
    [float("nan"), 1], list(range(3000)), {}, {"": 1}, {"kind": "grid"}, {"kind": "cmaes"},
    {"kind": "nsgaii"}, {"kind": []}, {"kind": None}, {"float": [0.1, 0.5], "step": 0.1},
    {"float": [1, 2], "step": 1e-300}, {"int": [1, 10**400]}, {"int": [0, 2**53]},
    {"float": [0, 1], "step": 1e-9}, {"choice": [1, "a", None]}, {"choice": []}, {"fixed": None},
    {"float": [0.5, 8], "log": True}, {"float": [1, 2], "when": {"tau": 1e999}},
    {"int": [1, 3], "when": {"divergence": "forward_kl"}}, {"fixed": 1, "when": {"": []}},
    {"model": "x", "config": {}}, {"config": {"model_type": []}}, {"metric": "rouge_l"},
    {"metric": {}}, [{"metric": "rouge_l"}, {"metric": "cross_entropy"}], [{}], {"train": {}},
    {1: 2}, {None: 1}, {"a": {"b": {"c": {"d": 1}}}},
]  # fmt: skip

# Half a character is refused where a file is read, and stands among the values above.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    st.sampled_from(NASTY) | scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def mutated(documents: list[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """One of the documents after one to four random changes."""
    return st.composite(_mutate)(documents)


def _mutate(draw: Callable[[Any], Any], documents: list[dict[str, Any]]) -> dict[str, Any]:
    # Copied, since later changes go into what earlier ones put in.
    document = copy.deepcopy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(1, 4))):
        places = list(_places(document))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(("replace", "delete", "retype", "add", "move", "swap")))
        if change == "delete" and isinstance(holder, dict):
            del holder[key]
        elif change == "retype":
            holder[key] = draw(st.sampled_from((str, repr, lambda v: [v], lambda v: {"x": v})))(
                holder[key]
            )
        elif change == "add" and isinstance(holder, dict):
            holder[draw(st.sampled_from(_names(documents)) | texts)] = copy.deepcopy(draw(values))
        elif change in ("move", "swap"):
            other, name = draw(st.sampled_from(places))
            holder[key] = copy.deepcopy(other[name])
        else:
            holder[key] = copy.deepcopy(draw(values))
    return document


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a document that holds a value: its mapping or list, and the key in it."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in list(keys):
        yield value, key
        yield from _places(value[key])


def _names(documents: list[dict[str, Any]]) -> list[str]:
    found = {str(key) for document in documents for _, key in _places(document)}
    return sorted(found)


def ends_well(action: Callable[[], Any], *errors: type[Exception]) -> Any:
    """Returns what `action` returns, None where it raises one of `errors`, whose text can be
    printed. Fails where it takes too long; any other exception is the test's failure."""
    started = time.process_time()
    result = None
    try:
        result = action()
    except errors as error:
        assert str(error).strip(), "an error without a word"
        str(error).encode()  # a terminal could not write a half surrogate
        assert len(str(error)) < 20_000, "an error of pages"
    assert time.process_time() - started < LONGEST_S
    return result
