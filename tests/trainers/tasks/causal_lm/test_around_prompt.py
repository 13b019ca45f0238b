import pytest

from trainers.tasks.causal_lm.templates import ALPACA, around_prompt


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("alpaca", ALPACA.replace("instruction}", "prompt}")),
        ("chat", None),
        ("{instruction}\n", "{prompt}\n"),
        ('{"ask": "{instruction}", "with": "{input}"}', '{{"ask": "{prompt}", "with": ""}}'),
        ("{instruction} again: {instruction}", "{prompt} again: "),
    ],
)
def test_a_template_is_a_text_around_one_prompt(template: str, expected: str | None) -> None:
    found = around_prompt(template)
    assert found == expected
    if found is not None:
        assert found.format(prompt="x{y}").count("x{y}") == 1
