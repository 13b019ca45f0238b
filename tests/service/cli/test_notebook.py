"""The panel of a notebook; `tests/test_notebooks.py` has it in a kernel."""

from rich.text import Text

from service.cli.notebook import bundle


def test_a_panel_is_html_that_shows_names_as_they_are_and_text() -> None:
    made = bundle(Text("a <b> name\x1b", style="bold"))
    assert made["text/plain"] == "a <b> name?\n"
    assert made["text/html"].startswith("<pre")
    assert "a &lt;b&gt; name?" in made["text/html"]
    assert "font-weight: bold" in made["text/html"]
