"""Pictures of estimators show the table's estimates on the exact lines."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from udl_lab.figures.derivative_by_parameter import derivative_by_parameter
from udl_lab.figures.spread_by_draws import spread_by_draws


def fits(figure):
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    box, (wide, high) = figure.get_tightbbox(), figure.get_size_inches()
    return 0 <= box.x0 <= box.x1 <= wide and 0 <= box.y0 <= box.y1 <= high


def estimates():
    return pd.DataFrame(
        [
            {
                "estimator": name, "phi": phi, "n": 100, "mean": 1 + phi, "mean_exact": 1.0,
                "variance": 5.0, "variance_exact": 4.0,
            }
            for name in ("expectation", "reparameterised", "score_function", "mine")
            for phi in (0.0, 1.0)
        ]
    )  # fmt: skip


def bars(container):
    """Low and high of each interval."""
    return [tuple(segment[:, 1]) for segment in container.lines[2][0].get_segments()]


def test_estimates_stand_on_exact_lines_with_intervals_of_their_own_size():
    figure = derivative_by_parameter(estimates(), "title")
    left, middle, right = figure.axes
    [container] = left.containers
    assert list(container.lines[0].get_xdata()) == [0, 1]
    assert list(container.lines[0].get_ydata()) == [1, 2]
    # 1.96 √(4/100) either way
    np.testing.assert_allclose(bars(container), [(1 - 0.392, 1.392), (2 - 0.392, 2.392)])
    for axes in (left, middle):
        (exact,) = [line for line in axes.lines if line.get_label() == "exact"]
        assert list(exact.get_ydata()) == [1, 1]
    assert len(middle.containers) == 3
    assert [tuple(line.get_ydata()) for line in right.lines] == [(4, 4), (5, 5)] * 3
    assert right.get_yscale() == "log"


def test_the_derivative_has_its_estimators_units_and_names():
    figure = derivative_by_parameter(estimates(), "100 draws")
    left, middle, right = figure.axes
    assert figure.get_suptitle() == "100 draws"
    assert left.get_ylabel() == "E[f(x)]" and middle.get_ylabel() == "dE[f(x)] / dφ"
    names = [text.get_text() for text in right.get_legend().get_texts()]
    assert names == ["reparameterised", "score function", "mine"]
    assert {axes.get_xlabel() for axes in figure.axes} == {"φ"}
    assert fits(figure)


def spreads():
    n = np.array([1, 4, 100])
    parts = [
        pd.DataFrame(
            {
                "estimator": name, "n": n, "sd": 1.1 * std / n**0.5, "sd_exact": std / n**0.5,
                "low": std / n**0.5, "high": 1.5 * std / n**0.5,
            }
        )
        for name, std in (("rare f, draws of p", 2.4), ("rare f, draws of q", 0.5))
    ]  # fmt: skip
    return pd.concat(parts)


def test_the_law_is_the_exact_spread_and_measured_points_keep_their_own_values():
    (axes,) = spread_by_draws(spreads(), "means").axes
    assert axes.get_xscale() == axes.get_yscale() == "log"
    laws = [line for line in axes.lines if line.get_linestyle() == "-"]
    for law, container, std in zip(laws, axes.containers, (2.4, 0.5), strict=True):
        assert list(law.get_xdata()) == [1, 4, 100]
        np.testing.assert_allclose(law.get_ydata(), [std, std / 2, std / 10])
        measured = container.lines[0].get_ydata().astype(float)
        np.testing.assert_allclose(measured, 1.1 * law.get_ydata())
        np.testing.assert_allclose(bars(container)[1], (std / 2, 0.75 * std))
        assert law.get_color() == container.lines[0].get_color()
        assert law.get_zorder() < container.lines[0].get_zorder()  # beneath


def test_the_spread_names_its_estimators_with_the_deviation_of_one_draw():
    figure = spread_by_draws(spreads().query("n > 1"), "means")
    (axes,) = figure.axes
    names = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert names[:2] == [
        "rare f, draws of p\n(one draw: σ = 2.4)", "rare f, draws of q\n(one draw: σ = 0.5)",
    ]  # fmt: skip
    assert axes.get_xlabel() == "n, draws in each estimate"
    assert axes.get_title() == "means"
    assert fits(figure)
