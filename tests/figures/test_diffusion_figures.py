"""Pictures of diffusion show what their tables and tensors say, and say in which unit."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.samplers import Trajectory
from udl_lab.diffusion.schedule import linear
from udl_lab.diffusion.walks import DDIM, DDPM, Heun, walk
from udl_lab.figures.budget_bars import budget_bars
from udl_lab.figures.distance_by_steps import distance_by_steps, sampler_name
from udl_lab.figures.loss_by_level import loss_by_level
from udl_lab.figures.sample_grids import eta_by_steps, same_start_grid, sample_grid, signal_grid
from udl_lab.figures.trajectories import density_and_trajectories, line_samples, plane_samples
from udl_lab.randomness import generator

BOOK = make_law("book", linear(40))


def row(metric, estimate, element="", site="", spread=0.0):
    return {
        "key": f"m/{metric}", "metric": metric, "site": site, "element": element,
        "estimate": estimate, "low": estimate - spread, "high": estimate + spread,
    }  # fmt: skip


def drawn(figure):
    """Its axes, after drawing, which would raise what is wrong."""
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    return figure.axes


def legend(figure):
    return [text.get_text() for one in figure.legends for text in one.get_texts()]


def fits(figure):
    """Whether all that is drawn, labels and legends too, lies inside of the figure (in inches)."""
    figure.draw_without_rendering()
    box, (wide, high) = figure.get_tightbbox(), figure.get_size_inches()
    return 0 <= box.x0 <= box.x1 <= wide and 0 <= box.y0 <= box.y1 <= high


# Paths over a density


def recorded(sampler, n=50):
    noise = torch.randn(n, 1, generator=generator(0, "x"), dtype=torch.float64)
    return Trajectory.record(walk(sampler, BOOK, noise, generator(0, "noise")))


def test_paths_are_the_recorded_states_from_noise_at_the_left_to_data_at_the_right():
    walked = recorded(DDIM(8))
    figure = density_and_trajectories(BOOK, walked, "book", most=10)
    left, _, _ = drawn(figure)
    assert left.get_xlim() == (40, 0)
    assert "T = 40" in left.get_xlabel()
    assert len(left.lines) == 10
    for path, i in zip(left.lines, range(2, 50, 5), strict=True):
        assert list(path.get_xdata()) == [40, 35, 30, 25, 20, 15, 10, 5, 0]
        np.testing.assert_array_equal(path.get_ydata(), walked.x[:, i, 0])
    assert "10 of 50 paths" in legend(figure)
    assert fits(figure)


def test_no_path_is_drawn_twice_when_there_are_few():
    left, *_ = drawn(density_and_trajectories(BOOK, recorded(DDPM(4), n=3), "book", most=15))
    assert len(left.lines) == 3


def test_the_heat_map_is_the_density_of_each_level():
    left, right, _ = drawn(density_and_trajectories(BOOK, recorded(DDIM(2)), "book"))
    heat = left.collections[0]
    places = torch.linspace(*left.get_ylim(), 401, dtype=torch.float64)[:, None]
    values = np.asarray(heat.get_array()).reshape(401, 201)
    # 201 columns over 40 levels: column 5 i is level i. The last one is the data's own density.
    for level in (0, 7, 40):
        np.testing.assert_allclose(values[:, 5 * level], BOOK.log_prob(places, level).exp())
    width = float(places[1] - places[0])
    # Nearly all of the mass at every level is on the map: 3.6 deviations hold all but 3e-4.
    np.testing.assert_allclose(values.sum(0) * width, 1, atol=1e-3)
    (density,) = right.lines
    expected = BOOK.log_prob(torch.from_numpy(density.get_ydata())[:, None]).exp()
    np.testing.assert_allclose(density.get_xdata(), expected)


def test_the_histogram_counts_every_end_and_says_which_are_outside():
    walked = recorded(DDIM(8))
    walked.x[-1, :3] = torch.tensor([100.0, -100.0, math.nan], dtype=torch.float64)[:, None]
    figure = density_and_trajectories(BOOK, walked, "book")
    _, right, _ = drawn(figure)
    heights, edges, _ = right.patches[0].get_data()
    assert float((heights * np.diff(edges)).sum()) == pytest.approx(47 / 50)
    assert "ends at level 0: 50 samples, 3 of them outside" in legend(figure)


def test_a_law_in_the_plane_or_a_walk_that_stops_early_is_refused():
    ring = make_law("ring", linear(40))
    with pytest.raises(ValueError, match=r"2 dimensions .* plane_samples"):
        density_and_trajectories(ring, recorded(DDIM(2)), "ring")
    walked = recorded(DDIM(2))
    early = Trajectory(walked.levels[:-1], walked.x[:-1], walked.x0, walked.eps)
    with pytest.raises(ValueError, match=r"\(40, 20\); record one that ends at level 0"):
        density_and_trajectories(BOOK, early, "book")


def test_clouds_lie_over_the_data_in_equal_axes():
    real = torch.randn(40, 2, generator=generator(0, "real"))
    samples = {"ddim5_eta0": real[:30] + 0.1, "ddpm5_small": torch.full((7, 2), 50.0)}
    figure = plane_samples(real, samples, "ring")
    first, second, third = drawn(figure)
    assert [len(axes.collections) for axes in (first, second, third)] == [1, 2, 2]
    for axes in (first, second, third):
        np.testing.assert_allclose(axes.collections[0].get_offsets(), real)
        assert axes.get_aspect() == 1
        assert axes.get_xlim() == axes.get_ylim() == first.get_xlim()
    np.testing.assert_allclose(second.collections[1].get_offsets(), samples["ddim5_eta0"])
    assert "ddim5_eta0" in second.get_title()
    assert "7 points, 7 of them outside" in third.get_title()
    assert "grey: the data" in figure.get_supxlabel()
    assert fits(figure)


def test_samples_are_drawn_without_data_and_when_they_diverged():
    (axes,) = drawn(plane_samples(None, {"samples": torch.full((5, 2), math.nan)}, "ring"))
    assert "5 of them outside" in axes.get_title()
    (axes,) = drawn(line_samples(torch.tensor([math.inf, math.nan]), "book"))
    assert "2 of them outside" in axes.get_xlabel()
    with pytest.raises(ValueError, match="neither data nor samples"):
        plane_samples(None, {}, "ring")


def test_the_histogram_on_the_line_has_area_1():
    samples = torch.randn(1000, generator=generator(0, "line"))
    (axes,) = drawn(line_samples(samples, "normal"))
    heights, edges, _ = axes.patches[0].get_data()
    assert float((heights * np.diff(edges)).sum()) == pytest.approx(1)
    assert axes.get_xlabel() == "value (data's unit): 1,000 samples"


# Images


def picture(figure):
    axes = drawn(figure)[0]
    return np.asarray(axes.images[0].get_array())


def test_images_stand_in_rows_on_one_scale_of_grey():
    values = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])
    images = values.reshape(5, 1, 1, 1).expand(5, 1, 4, 6)
    figure = sample_grid(images, "digits", columns=3)
    canvas = picture(figure)
    assert canvas.shape == (4 + 2 + 4, 6 + 2 + 6 + 2 + 6, 3)
    for i, grey in enumerate([0, 0.25, 0.5, 0.75, 1]):
        y, x = 6 * (i // 3), 8 * (i % 3)
        assert (canvas[y : y + 4, x : x + 6] == grey).all()
    assert (canvas[6:, 16:] == 1).all()  # no sixth image: white
    assert figure.get_supxlabel() == "black −1, white 1"


def test_values_outside_are_cut_and_counted_and_broken_ones_are_magenta():
    images = torch.zeros(1, 1, 2, 5)
    images[0, 0, 0, :3] = torch.tensor([2.0, -3.0, math.nan])
    figure = sample_grid(images, "digits")
    canvas = picture(figure)
    assert canvas[0].tolist()[:3] == [[1, 1, 1], [0, 0, 0], [1, 0, 1]]
    assert "20.00% of the values lie outside and are cut" in figure.get_supxlabel()
    assert "10.00% are not finite (magenta)" in figure.get_supxlabel()


def test_three_channels_are_colours_and_a_range_can_be_given():
    images = torch.tensor([0.0, 5.0, 10.0]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    canvas = picture(sample_grid(images, "colours", low=0.0, high=10.0))
    assert (canvas == [0, 0.5, 1]).all()


@pytest.mark.parametrize(
    ("shape", "bounds", "message"),
    [
        ((2, 2, 4, 4), (-1, 1), "2 channels are no picture"),
        ((0, 1, 4, 4), (-1, 1), "0 images make no grid"),
        ((2, 1, 4, 4), (1, 1), "low=1.0 must be below high=1.0"),
    ],
)
def test_what_is_no_picture_is_refused(shape, bounds, message):
    low, high = map(float, bounds)
    with pytest.raises(ValueError, match=message):
        sample_grid(torch.zeros(shape), "", low=low, high=high)


def named(axis, labels):
    return {
        label.get_text(): place for place, label in zip(axis.get_ticklocs(), labels(), strict=True)
    }


def test_a_row_is_a_sampler_and_a_column_a_start():
    grey = torch.tensor([[-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]]).reshape(2, 3, 1, 1, 1)
    images = dict(zip(["ddim5_eta0", "heun5"], grey.expand(2, 3, 1, 8, 8), strict=True))
    figure = same_start_grid(images, "a network")
    (axes,) = drawn(figure)
    canvas = picture(figure)
    across = named(axes.xaxis, axes.get_xticklabels)
    down = named(axes.yaxis, axes.get_yticklabels)
    assert list(across) == ["1", "2", "3"]
    found = {s: [canvas[round(y), round(x), 0] for x in across.values()] for s, y in down.items()}
    assert found == {"ddim5_eta0": [0, 0.5, 1], "heun5": [1, 0, 0.5]}
    assert fits(figure)


def test_rows_of_different_length_are_refused():
    images = {"a": torch.zeros(2, 1, 4, 4), "b": torch.zeros(3, 1, 4, 4)}
    with pytest.raises(ValueError, match=r"'b': \(3, 1, 4, 4\)"):
        same_start_grid(images, "")


@pytest.mark.parametrize("few", [(), (1,), (3,), (4,)])
def test_eta_runs_down_and_steps_across_whatever_their_order(few):
    values = {(1.0, 20): 1.0, (0, 5): -1.0, (0, 20): 0.0}  # (1.0, 5) is left out
    grid = {key: torch.full((*few, 1, 8, 8), value) for key, value in values.items()}
    figure = eta_by_steps(grid, "a network")
    (axes,) = drawn(figure)
    canvas = picture(figure)
    across = named(axes.xaxis, axes.get_xticklabels)
    down = named(axes.yaxis, axes.get_yticklabels)
    assert list(across) == ["5", "20"]
    assert list(down) == ["0", "1"]
    # Off the middle of a cell by a quarter of an image, in it if one is drawn or three or four.
    found = {
        (e, s): canvas[round(y) - 3, round(x) - 3, 0]
        for e, y in down.items()
        for s, x in across.items()
    }
    assert found == {("0", "5"): 0, ("0", "20"): 0.5, ("1", "5"): 1, ("1", "20"): 1}
    assert axes.get_xlabel().startswith("steps of the sampler")
    assert axes.get_ylabel() == "η"
    assert fits(figure)


def test_signals_are_drawn_as_they_are_on_one_scale():
    signals = torch.randn(5, 1, 40, generator=generator(0, "signals"))
    figure = signal_grid(signals, "MNIST-1D", columns=3)
    axes = drawn(figure)
    assert len(axes) == 6
    assert not axes[5].axison
    for one, signal in zip(axes, signals, strict=False):
        np.testing.assert_allclose(one.lines[-1].get_ydata(), signal[0])
        assert one.get_ylim() == axes[0].get_ylim()
    assert figure.get_supylabel() == "value (data's unit)"
    assert fits(figure)


# Distances


@pytest.mark.parametrize(
    ("sampler", "family"),
    [
        (DDIM(20), "DDIM, η = 0"),
        (DDIM(20, eta=0.5, spacing="leading"), "DDIM, η = 0.5, leading"),
        (DDPM(20), "DDPM, small variance"),
        (DDPM(20, "large", keep_last_noise=True), "DDPM, large variance, noisy to the end"),
        (Heun(20), "Heun"),
        (Heun(20, "linspace"), "Heun, linspace"),
    ],
)
def test_every_label_of_a_sampler_has_a_name_in_words(sampler, family):
    assert sampler_name(sampler.label) == (family, 20)


@pytest.mark.parametrize("element", ["", "t50x", "identity", "+90", "20"])
def test_what_is_no_sampler_has_no_such_name(element):
    assert sampler_name(element) is None


W1 = {  # by family and steps: the network's, the exact score's, and that from the true start
    "ddim{}_eta0": {100: (0.03, 0.02, 0.01), 10: (0.2, 0.15, 0.14)},
    "ddpm{}_small": {10: (0.4, 0.3, 0.25), 100: (0.05, 0.04, 0.035)},
}
DISTANCES = pd.DataFrame(
    [
        row("w1_of_draws", 0.006),
        row("accuracy", 0.5),
        *(
            row(metric, value, element.format(steps))
            for element, by_steps in W1.items()
            for steps, values in by_steps.items()
            for metric, value in zip(("w1", "w1_exact", "w1_true_start"), values, strict=True)
        ),
        row("w1", 9.0, "ddim10_eta0", site="last_weights"),
        row("w1", 8.0, "ddim20_eta0", site="last_weights"),
        row("ks", 0.5, "ddim10_eta0"),
        row("frechet", 40.0, "ddim10_eta0", spread=5),
        row("frechet", 10.0, "ddim100_eta0", spread=2),
        row("frechet_baseline", 1.5, spread=0.25),
    ]
)


def curves(axes, linestyle):
    """(steps, value) of every line of a style; lines across the axes are not curves."""
    return [
        list(zip(line.get_xdata(), line.get_ydata(), strict=True))
        for line in axes.lines
        if line.get_linestyle() == linestyle and line.get_xdata()[0] != 0
    ]


def test_each_family_has_a_line_for_the_network_and_one_beneath_for_the_exact_score():
    figure = distance_by_steps(DISTANCES, "book")
    (axes,) = drawn(figure)
    assert axes.get_xscale() == axes.get_yscale() == "log"
    for i, style in enumerate(("-", "--", ":")):
        expected = [[(s, by_steps[s][i]) for s in (10, 100)] for by_steps in W1.values()]
        assert curves(axes, style) == expected
    across = [line for line in axes.lines if line.get_linestyle() == "-."]
    assert [list(line.get_ydata()) for line in across] == [[0.006, 0.006]]
    low, high = axes.get_ylim()
    assert low < 0.006
    assert 0.4 < high < 9  # the last weights are another picture
    assert legend(figure) == [
        "DDIM, η = 0",
        "DDPM, small variance",
        "the network, from noise",
        "the exact score, from noise",
        "the exact score, from the true q($x_t$)",
        "as many draws of the law (chance)",
    ]
    assert "data's unit" in axes.get_ylabel()
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["10", "100"]
    assert fits(figure)


def test_a_family_has_one_colour_in_all_of_its_lines():
    (axes,) = drawn(distance_by_steps(DISTANCES, "book"))
    colours = [line.get_color() for line in axes.lines if line.get_linestyle() != "-."]
    assert colours == ["C0", "C1"] * 3


def test_the_last_weights_are_drawn_when_asked_for():
    (axes,) = drawn(distance_by_steps(DISTANCES, "book", site="last_weights"))
    assert curves(axes, "-") == [[(10, 9.0), (20, 8.0)]]


def test_one_number_of_steps_is_no_curve():
    one = DISTANCES[DISTANCES["element"] != "ddim100_eta0"]
    assert distance_by_steps(one, "digits", metric="frechet") is None


def test_a_frechet_distance_stands_over_real_against_real():
    figure = distance_by_steps(DISTANCES, "digits", metric="frechet")
    (axes,) = drawn(figure)
    assert curves(axes, "-") == [[(10, 40.0), (100, 10.0)]]
    assert [list(line.get_ydata()) for line in axes.lines[1:]] == [[1.5, 1.5]]
    band = axes.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in band} >= {(10, 35), (10, 45), (100, 8), (100, 12)}
    assert legend(figure)[-1] == "real against real, as many"
    assert "95 % intervals" in axes.get_title()
    assert "squared" in axes.get_ylabel()


def test_distances_without_a_logarithm_are_counted_in_the_label():
    bad = [row("w1", v, f"ddim{s}_eta0") for s, v in ((2, 0.0), (3, math.inf), (4, math.nan))]
    (axes,) = drawn(distance_by_steps(pd.concat([DISTANCES, pd.DataFrame(bad)]), "book"))
    assert "(3 of 15 are not drawn" in axes.get_ylabel()
    assert curves(axes, "-")[0] == [(10, 0.2), (100, 0.03)]


def test_there_is_no_picture_of_what_the_table_lacks():
    assert distance_by_steps(DISTANCES, "book", metric="mmd") is None
    assert distance_by_steps(DISTANCES[:0], "book") is None
    assert budget_bars(DISTANCES, "book") is None
    assert loss_by_level(DISTANCES, "book") is None


# Budgets

SHARES = {
    "budget_total": 0.04,
    "budget_prior_gap": -0.001,
    "budget_discretisation": 0.02,
    "budget_score_error": 0.015,
    "budget_float_error": 2e-7,
    "budget_perfect": 0.0009,
}
BUDGET = pd.DataFrame([row(metric, v, "ddim20_eta0") for metric, v in SHARES.items()])


def test_a_bar_is_as_long_as_its_share_with_its_sign():
    figure = budget_bars(BUDGET, "book")
    (axes,) = drawn(figure)
    lengths = [bar.get_width() for bar in axes.patches]
    assert lengths == [0.04, 0.015, 0.02, -0.001, 2e-7, 0.0009]
    names = [tick.get_text().split("\n")[0] for tick in axes.get_yticklabels()]
    assert [name.split(":")[0] for name in names] == [
        "total", "score error", "discretisation", "prior gap", "float error", "perfect",
    ]  # fmt: skip
    said = [text.get_text() for text in axes.texts]
    assert said == ["0.040", "+0.015", "+0.020", "−0.0010", "+2.0e−07", "0.00090"]
    top, bottom = (axes.transData.transform((0, y))[1] for y in (0, 5))
    assert top > bottom  # the total stands first
    assert axes.get_title() == "DDIM, η = 0, 20 steps"
    assert "need not add up" in figure.get_supxlabel()
    assert "data's unit" in figure.get_supxlabel()
    assert fits(figure)


def test_two_sets_of_weights_are_two_panels_on_one_scale():
    table = pd.concat([BUDGET, BUDGET.assign(site="last_weights", estimate=math.nan)])
    left, right = drawn(budget_bars(table, "book"))
    assert right.get_title() == "DDIM, η = 0, 20 steps (last weights)"
    assert left.get_xlim() == right.get_xlim()
    assert [text.get_text() for text in right.texts][:2] == ["nan", "+nan"]


# Losses

LOSSES = pd.DataFrame(
    [
        row("eps_error", 0.3, spread=0.1),  # over all levels: no point of the picture
        *(
            row(metric, value, f"t{t}", site, spread)
            for site, worse in (("", 1), ("last_weights", 2))
            for t, floor in ((100, 0.0), (20, 0.6), (60, 0.25))
            for metric, value, spread in (
                ("eps_error", floor + 0.01 * worse, 0.004),
                ("floor", floor, 0.002),
                ("excess", 0.01 * worse, 0.001),
            )
        ),
    ]
)


def points(axes):
    return {
        line.get_label(): list(zip(line.get_xdata(), line.get_ydata(), strict=True))
        for line in axes.lines
    }


def test_the_error_stands_over_its_floor_and_the_excess_beside_it_on_a_logarithmic_scale():
    figure = loss_by_level(LOSSES, "book")
    left, right = drawn(figure)
    floor = r"floor: the exact $E[\varepsilon\,|\,x_t]$"
    last = "network, its last weights (not averaged)"
    assert points(left)["network"] == [(20, 0.61), (60, 0.26), (100, 0.01)]
    assert points(left)[floor] == [(20, 0.6), (60, 0.25), (100, 0.0)]
    assert points(right) == {
        "network": [(20, 0.01), (60, 0.01), (100, 0.01)],
        last: [(20, 0.02), (60, 0.02), (100, 0.02)],
    }
    assert legend(figure) == ["network", last, floor, "predicting 0"]
    assert right.get_yscale() == "log"
    assert left.get_ylim()[0] == 0
    assert all("per dimension" in axes.get_ylabel() for axes in (left, right))
    assert "95 % intervals" in figure.get_suptitle()
    assert fits(figure)


def test_the_band_of_an_error_is_its_interval():
    left, _ = drawn(loss_by_level(LOSSES, "book"))
    band = {(x, round(y, 6)) for x, y in left.collections[0].get_paths()[0].vertices}
    assert band >= {(20, 0.606), (20, 0.614), (60, 0.256), (60, 0.264)}


def test_without_a_law_there_is_an_error_alone():
    (axes,) = drawn(loss_by_level(LOSSES[LOSSES["metric"] == "eps_error"], "digits"))
    assert set(points(axes)) == {
        "network",
        "network, its last weights (not averaged)",
        "predicting 0",
    }


def test_a_network_that_diverged_is_drawn_without_its_points():
    worst = LOSSES.copy()
    worst.loc[worst["element"] == "t60", ["estimate", "high"]] = math.inf
    left, right = drawn(loss_by_level(worst, "book"))
    assert left.get_ylim() == (0, 1.08)
    assert points(right)["network"][::2] == [(20, 0.01), (100, 0.01)]
    assert math.isnan(points(right)["network"][1][1])
    (left,) = drawn(loss_by_level(LOSSES.assign(estimate=math.inf, high=math.inf), "book"))
    assert left.get_ylim() == (0, 1.08)


def test_an_exact_denoiser_has_no_excess_to_draw():
    exact = LOSSES.assign(estimate=LOSSES["estimate"].where(LOSSES["metric"] != "excess", 0.0))
    assert len(drawn(loss_by_level(exact, "book"))) == 1
