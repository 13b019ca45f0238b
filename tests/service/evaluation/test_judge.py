"""A judge behind a server that answers as OpenAI's: verdicts, both orders, and what it is not."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.errors import PlanError, SpecError
from service.evaluation.judge import Judgement, asked, document, judgement, summary, verdict
from service.evaluation.judges import Judge as AnyJudge
from service.evaluation.judges import ModelAt, ModelHere, judge_named

SECRET = "sk-very-secret"


def judge(model: AnyJudge, *pair: str) -> Judgement:
    one, other = model.ask(asked(*pair))
    return judgement(*pair, (one, other))


class Judge(BaseHTTPRequestHandler):
    """Prefers the longer answer; one that says `first!` by its place alone."""

    asked: list[dict[str, Any]] = []
    keys: list[str | None] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        self.keys.append(self.headers["Authorization"])
        text = body["messages"][0]["content"]
        a, b = (text.split(f"[Answer {one}]\n")[1].split("\n\n")[0] for one in "AB")
        better = "A" if "first!" in text or len(a) > len(b) else "C" if len(a) == len(b) else "B"
        said = "no idea" if "odd" in text else f"[[C]]? No: [[{better}]]"
        answer = {"choices": [{"message": {"content": said}}]}
        payload = json.dumps(answer if "broken" not in text else {"error": "x"}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *given: object) -> None:
        """Says nothing."""


@pytest.fixture
def model() -> Iterator[ModelAt]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield ModelAt(f"http://127.0.0.1:{server.server_port}/v1", "judge-1", SECRET)
    server.shutdown()
    server.server_close()


def test_what_both_orders_say_counts_and_the_rest_is_a_tie(model: ModelAt) -> None:
    cases = [("long answer", "short"), ("short", "long answer"), ("same", "size"), ("first!", "x")]
    found = [judge(model, "Why {a}?", *case) for case in cases]
    assert [one.outcome for one in found] == ["first", "second", "tie", "tie"]
    assert found[3].verdicts == ("first", "second")
    shares = summary([[one] for one in found])
    assert (shares["wins"], shares["ties"], shares["losses"]) == (25, 50, 25)
    assert shares["win_rate"] == 50
    # of 100, 0, 50 and 50
    assert shares["win_rate_error"] == pytest.approx((5000 / 3) ** 0.5 / 2)
    # of six verdicts that are no tie it took the one shown first four times
    assert shares["first_shown"] == pytest.approx(100 * 4 / 6)
    assert Judge.asked[-1]["temperature"] == 0 and Judge.asked[-1]["model"] == "judge-1"
    assert "Why {a}?" in Judge.asked[-1]["messages"][0]["content"]


def test_a_verdict_that_cannot_be_read_counts_for_nobody(model: ModelAt) -> None:
    found = [judge(model, "odd", "a", "b"), judge(model, "fine", "longer", "b")]
    assert found[0].outcome == "unreadable"
    shares = summary([[one] for one in found])
    assert (shares["unreadable"], shares["win_rate"]) == (50, 100)
    assert "win_rate_error" not in shares, "one prompt has no spread"
    assert verdict("[[A]] or rather [[B]]", ("first", "second")) == "second"


def test_seeds_of_a_prompt_are_one_before_prompts_are_averaged() -> None:
    def of(outcome: str) -> Judgement:
        verdicts = {"tie": ("first", "second")}.get(outcome, (outcome, outcome))
        return Judgement("p", "a", "b", ("", ""), verdicts)

    seeds = [("first", "first", "second"), ("unreadable", "tie", "first"), ("unreadable",) * 3]
    shares = summary([[of(one) for one in of_prompt] for of_prompt in seeds])
    # 2 of 3 and then 1.5 of 2: the prompt without a verdict counts for nothing
    assert shares["win_rate"] == pytest.approx(100 * (2 / 3 + 3 / 4) / 2)
    assert shares["win_rate_error"] == pytest.approx(100 * (3 / 4 - 2 / 3) / 2)
    assert shares["losses"] == pytest.approx(100 / 6) and shares["ties"] == pytest.approx(25)
    assert shares["unreadable"] == pytest.approx(100 * 4 / 9)


def test_the_key_is_sent_and_kept_nowhere(model: ModelAt) -> None:
    found = [judge(model, "x", "a", "bb")]
    assert Judge.keys[-1] == f"Bearer {SECRET}"
    assert SECRET not in json.dumps(document(model.describe(), [found])) + repr(model)
    with pytest.raises(PlanError, match="must answer as OpenAI's chat/completions") as error:
        model.ask(["broken\n[Answer A]\nx\n\n[Answer B]\ny\n\n"])
    assert SECRET not in str(error.value)


def test_an_address_without_a_server_is_named(model: ModelAt) -> None:
    model.check(["x"])
    nobody = ModelAt("http://127.0.0.1:9/v1", "m")
    with pytest.raises(PlanError, match=r"--judge: http://127\.0\.0\.1:9/v1 must answer"):
        nobody.ask(["x"])
    with pytest.raises(PlanError, match=r"--judge: http://127\.0\.0\.1:9/v1 must answer"):
        nobody.check(["x"])


def test_what_is_no_address_is_a_model_here(tmp_path: Path) -> None:
    assert judge_named("https://host/v1", None, "k") == ModelAt("https://host/v1", "default", "k")
    assert judge_named("./judge", None, "k") == ModelHere("./judge")
    with pytest.raises(SpecError, match=r"--judge-model: names a model .* --judge is '\./judge'"):
        judge_named("./judge", "m", None)
    with pytest.raises(PlanError, match=r"^--judge: folder .* is not a model: config\.json is"):
        ModelHere(str(tmp_path)).check(["x"])
    with pytest.raises(PlanError, match=r"^--judge: folder .*/none must exist.* begins with http"):
        ModelHere(str(tmp_path / "none")).check(["x"])
    with pytest.raises(SpecError, match="--judge: must be a model's folder .* but got nothing"):
        judge_named(" ", None, None)
