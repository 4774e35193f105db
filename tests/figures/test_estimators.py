"""Pictures of estimators show the table's estimates on the exact lines."""

import numpy as np
import pandas as pd

from udl_lab.figures.estimators import derivative_by_parameter, spread_by_draws


def test_estimates_stand_on_exact_lines_with_intervals_of_their_own_size():
    table = pd.DataFrame(
        [
            {
                "estimator": name, "phi": phi, "n": 100, "mean": 1 + phi, "mean_exact": 1.0,
                "variance": 5.0, "variance_exact": 4.0,
            }
            for name in ("expectation", "reparameterised", "score_function")
            for phi in (0.0, 1.0)
        ]
    )  # fmt: skip
    figure = derivative_by_parameter(table, "title")
    figure.draw_without_rendering()
    left, middle, right = figure.axes
    [bars] = left.containers
    [[_, low], [_, high]] = bars.lines[2][0].get_segments()[1][[0, 1]]
    assert np.isclose([low, high], [2 - 0.392, 2 + 0.392]).all()  # 1.96 √(4/100)
    exact = [line for line in left.lines if line.get_label() == "exact"]
    assert np.equal(exact[0].get_ydata(), 1).all()
    assert len(middle.containers) == 2
    drawn = [tuple(line.get_ydata()) for line in right.lines]
    assert drawn == [(4, 4), (5, 5)] * 2


def test_the_spread_is_twice_the_deviation_either_way():
    table = pd.DataFrame(
        {
            "estimator": "rare", "n": [1, 10], "mean": [0.0, 1.0], "sd": [3.0, 1.0],
            "mean_exact": 0.5, "sd_exact": [2.0, 1.0],
        }
    )  # fmt: skip
    figure = spread_by_draws(table, "title")
    figure.draw_without_rendering()
    [axes] = figure.axes
    edges = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (edges.min(), edges.max()) == (-6, 6)
    dashed = [tuple(line.get_ydata()) for line in axes.lines if line.get_linestyle() == "--"]
    assert dashed == [(4.5, 2.5), (-3.5, -1.5)]
