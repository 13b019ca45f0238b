"""The preset over images in the image, and its best trial again in a container."""

import json
from typing import TYPE_CHECKING

import pytest
from docker_support import Recorded, in_the_image

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [pytest.mark.docker, pytest.mark.slow]

# As the preset has it, but for the number of trials and for a teacher that is fitted in seconds.
FEW = ["--set=trials=2", "--set=controls=none", "--set=teacher.fit.epochs=2"]


def test_the_best_trial_of_the_digits_has_the_same_numbers_in_a_container(
    engine: "DockerClient", image: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("digits")
    in_the_image(engine, image, home, "run", "digits", *FEW, "--set=resources.slots=1")
    best = in_the_image(engine, image, home, "best", "--top", "1")
    recorded = Recorded(home, best[0])
    done = recorded.ask("rerun", recorded.trial, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["verdict"], answer["weights_equal"]) == ("reproduced", True)
    assert answer["differences"] == {}
    assert {row["metric"] for row in answer["metrics"]} >= {"top1", "cross_entropy"}
    assert all(row["recorded"] == row["rerun"] for row in answer["metrics"])
    assert "RUNNING" not in recorded.states()
