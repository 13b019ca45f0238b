"""The picture of a rho range: plain numbers, the range shaded, the spread drawn."""

import math

import pytest
import torch

from service.results.rho_picture import rho_figure, rho_page
from trainers.losses.rho import RhoRange, rho_range


@pytest.fixture(scope="module")
def found() -> RhoRange:
    return rho_range(3 * torch.randn(64, 50, generator=torch.Generator().manual_seed(0)))


def test_the_band_is_one_standard_deviation_about_the_mean(found: RhoRange) -> None:
    lower, upper, mean = rho_figure(found, "toy").data[:3]
    assert list(mean.y) == [row.mean for row in found.by_rho]
    for row, low, high in zip(found.by_rho, lower.y, upper.y, strict=True):
        assert high - row.mean == pytest.approx(row.std)
        assert low == max(0.0, row.mean - row.std)
    assert (upper.fill, upper.fillcolor) == ("tonexty", "rgba(0, 114, 178, 0.2)")
    assert any(row.std > 0.01 for row in found.by_rho)


def test_the_proposed_range_is_shaded_on_the_axis_of_rho(found: RhoRange) -> None:
    figure = rho_figure(found, "toy")
    (range_,) = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert (range_.x0, range_.x1) == (found.low_per_log_vocab, found.high_per_log_vocab)
    assert (range_.xref, range_.line.width, range_.fillcolor) == ("x", 0, "#0072B2")
    assert f"{range_.x0:g} to {range_.x1:g}" in figure.layout.annotations[-1].text


def test_axes_have_plain_numbers(found: RhoRange) -> None:
    figure = rho_figure(found, "toy")
    for axis, rows in ((figure.layout.xaxis, found.by_rho), (figure.layout.xaxis2, found.by_tau)):
        assert axis.type == "log"
        assert len(axis.tickvals) >= 3
        assert [float(text) for text in axis.ticktext] == list(axis.tickvals)
        assert "e" not in "".join(axis.ticktext)
        assert min(axis.tickvals) >= min(row.setting for row in rows)
    levels = [shape.y0 for shape in figure.layout.shapes if shape.type == "line"]
    assert levels and all(math.isclose(level, math.log(50)) for level in levels)


def test_the_page_needs_no_network(found: RhoRange) -> None:
    page = rho_page(found, "toy")
    assert "proposed range" in page
    assert "src=" not in page.split("<body")[0]
