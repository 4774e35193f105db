"""Pictures of latent models show what their tensors and tables say, and say in which unit."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from scipy import stats

from udl_lab.figures.aggregate_posterior import aggregate_posterior
from udl_lab.figures.bound_by_k import bound_by_k
from udl_lab.figures.curve_over_density import curve_over_density
from udl_lab.figures.latent_manifold import latent_manifold, manifold_latents, prior_quantiles
from udl_lab.figures.mass_levels import density_levels
from udl_lab.figures.posterior_and_prior import posterior_and_prior
from udl_lab.figures.posterior_on_grid import posterior_on_grid
from udl_lab.figures.rate_distortion import rate_distortion
from udl_lab.figures.reconstructions import reconstructions
from udl_lab.figures.traversals import traversal_latents, traversals
from udl_lab.figures.units_over_epochs import units_over_epochs
from udl_lab.latent.normal import Normal
from udl_lab.latent.quadrature import posterior_grid
from udl_lab.randomness import generator


def drawn(figure):
    """Its axes, after drawing, which would raise what is wrong."""
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    return figure.axes


def fits(figure):
    """Whether all that is drawn, labels and legends too, lies inside of the figure (in inches)."""
    figure.draw_without_rendering()
    box, (wide, high) = figure.get_tightbbox(), figure.get_size_inches()
    return 0 <= box.x0 <= box.x1 <= wide and 0 <= box.y0 <= box.y1 <= high


def legend(figure):
    return [text.get_text() for one in figure.legends for text in one.get_texts()]


def at_cells(figure):
    """The grey in the middle of every picture of a canvas, by rows, and the names of both axes."""
    (axes,) = drawn(figure)
    canvas = np.asarray(axes.images[0].get_array())[..., 0]
    places = [[round(t) for t in ticks()] for ticks in (axes.get_yticks, axes.get_xticks)]
    names = [[t.get_text() for t in s()] for s in (axes.get_yticklabels, axes.get_xticklabels)]
    return canvas[np.ix_(*places)], *names


def grey(*values):
    """Pictures of one grey each."""
    values = torch.tensor(values, dtype=torch.float64)
    return values[..., None, None, None].expand(*values.shape, 1, 8, 8)


# Pictures that a decoder draws


def test_reconstructions_stand_beneath_their_examples():
    figure = reconstructions(
        grey(0.1, 0.2, 0.3), grey(0.4, 0.5, 0.6), grey([0.7, 0.8, 0.9], [0.0, 1.0, 0.5]), "a model"
    )
    cells, down, across = at_cells(figure)
    np.testing.assert_allclose(
        cells, [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9], [0.0, 1.0, 0.5]]
    )
    assert down == [
        "image x", "z = mean of q(z|x)", "z ~ q(z|x), draw 1", "z ~ q(z|x), draw 2",
    ]  # fmt: skip
    assert across == ["1", "2", "3"]
    assert figure.axes[0].get_title() == "a model"
    assert figure.get_supxlabel() == "black 0, white 1"
    assert fits(figure)


def test_reconstructions_of_other_examples_are_refused():
    with pytest.raises(ValueError, match=r"'image x': \(2, 1, 8, 8\).*the same examples"):
        reconstructions(grey(0.1, 0.2), grey(0.1), grey([0.1, 0.2]), "")


def test_prior_quantiles_are_middles_of_equal_masses():
    z = prior_quantiles(5)
    np.testing.assert_allclose(stats.norm.cdf(z), [0.1, 0.3, 0.5, 0.7, 0.9], atol=1e-6)
    with pytest.raises(ValueError, match="0 quantiles"):
        prior_quantiles(0)


def test_the_manifold_has_z1_to_the_right_and_z2_upwards():
    z = manifold_latents(3)
    figure = latent_manifold(grey(*(0.5 + 0.1 * z[:, 0] + 0.3 * z[:, 1]).tolist()), "a model")
    cells, down, across = at_cells(figure)
    assert across == ["−0.97", "0.00", "0.97"]
    assert down == across[::-1]
    low = float(z[0, 0])
    expected = [[0.5 + 0.1 * z1 + 0.3 * z2 for z1 in (low, 0, -low)] for z2 in (-low, 0, low)]
    np.testing.assert_allclose(cells, expected, atol=1e-6)
    assert "$z_1$" in figure.axes[0].get_xlabel() and "$z_2$" in figure.axes[0].get_ylabel()
    assert fits(figure)


def test_a_manifold_that_is_no_square_is_refused():
    with pytest.raises(ValueError, match=r"5 images are no square; decode .*manifold_latents"):
        latent_manifold(grey(0.0, 0.1, 0.2, 0.3, 0.4), "")
    with pytest.raises(ValueError, match="0 images make no grid"):
        latent_manifold(torch.zeros(0, 1, 8, 8), "")


def test_a_traversal_moves_one_unit_and_no_other():
    start, values = torch.tensor([5.0, 6.0, 7.0]), torch.tensor([-1.0, 1.0])
    z = traversal_latents(start, values)
    assert z.tolist() == [
        [[-1, 6, 7], [1, 6, 7]], [[5, -1, 7], [5, 1, 7]], [[5, 6, -1], [5, 6, 1]],
    ]  # fmt: skip


def test_units_are_traversed_in_the_order_of_their_kl():
    images = grey([0.0, 0.1], [0.2, 0.3], [0.4, 0.5])
    kl, values = torch.tensor([0.5, 0.01, 2.0]), torch.tensor([-1.0, 1.0])
    figure = traversals(images, values, kl, "a model", most=2)
    cells, down, across = at_cells(figure)
    np.testing.assert_allclose(cells, [[0.4, 0.5], [0.0, 0.1]])
    assert down == ["unit 2: 2.00 nats", "unit 0: 0.50 nats"]
    assert across == ["−1.00", "1.00"]
    assert "the 2 units of largest KL, of 3" in figure.axes[0].get_title()
    assert "KL" in figure.axes[0].get_ylabel()
    assert fits(figure)
    assert len(at_cells(traversals(images, values, kl, "a model"))[1]) == 3


def test_traversals_of_other_units_are_refused():
    with pytest.raises(ValueError, match="2 × 1 images do not match 3 units and 1 values"):
        traversals(grey([0.0], [0.1]), torch.zeros(1), torch.zeros(3), "")


# Where the latents are


def normal(mean, std):
    std = torch.as_tensor(std, dtype=torch.float64)
    return Normal(torch.as_tensor(mean, dtype=torch.float64), std.log())


def exact(q, n=161):
    """As a posterior on the grid: prior and likelihood multiply to q."""

    def log_likelihood(z):
        return q.log_prob(z[:, None].expand(-1, len(q.mean), -1)) + 0.5 * z.square().sum(1)[:, None]

    return posterior_grid(log_likelihood, q.mean.shape[1], n)


def test_levels_of_a_normal_are_those_of_its_masses():
    """Above the density of radius r, in deviations, lie 1 − exp(−r²/2) of the mass."""
    grid = exact(normal([[0.0, 0.0]], [[1.0, 0.7]]), 401)
    levels = density_levels(grid.density[:, 0], grid.cell)
    expected = [(1 - mass) / (2 * math.pi * 0.7) for mass in (0.99, 0.9, 0.5)]
    # A cell of .04 × .04 / .7 holds 4e-4 of the mass where the density is largest.
    np.testing.assert_allclose(levels, expected, atol=2e-3 * expected[2])


def test_regions_of_a_normal_posterior_are_edged_by_the_ellipses_of_the_same_q():
    q = normal([[0.5, -1.0], [1.0, 1.0]], [[0.3, 0.6], [0.5, 0.2]])
    figure = posterior_on_grid(exact(q), q, "a model", best=q)
    panels = drawn(figure)
    assert len(panels) == 2
    for i, axes in enumerate(panels):
        assert len(axes.lines) == 6  # three masses, of q and of the best
        for line, region in zip(axes.lines[2::-1], axes.collections, strict=True):
            for d in (0, 1):
                edge = np.concatenate([path.vertices[:, d] for path in region.get_paths()])
                ellipse = line.get_data()[d]
                assert edge.max() == pytest.approx(ellipse.max(), abs=0.03)
                assert edge.min() == pytest.approx(ellipse.min(), abs=0.03)
        # The last line of each holds .99: radius √(2 log 100) deviations.
        reach = math.sqrt(2 * math.log(100)) * float(q.log_std[i, 0].exp())
        assert axes.lines[2].get_xdata().max() == pytest.approx(float(q.mean[i, 0]) + reach)
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        assert right - left == pytest.approx(high - low)
    assert legend(figure)[1:] == ["q(z|x), the encoder's", "the best diagonal normal for x"]
    assert fits(figure)


def test_posteriors_stand_beneath_their_images_and_names():
    q = normal([[0.5, -1.0], [1.0, 1.0]], [[0.3, 0.6], [0.5, 0.2]])
    images = torch.stack([torch.full((4, 4), 0.2), torch.full((4, 4), 0.9)])
    figure = posterior_on_grid(exact(q), q, "a model", images=images, names=["one", "two"])
    first, second, *panels = drawn(figure)
    assert (first.get_title(), second.get_title()) == ("one", "two")
    np.testing.assert_allclose(second.images[0].get_array(), images[1])
    assert [axes.get_xlabel() for axes in panels] == ["$z_1$"] * 2
    assert panels[0].get_ylabel() == "$z_2$"
    assert len(legend(figure)) == 2
    assert fits(figure)


def test_a_posterior_that_cannot_be_drawn_is_refused():
    one = normal([[0.0]], [[1.0]])
    with pytest.raises(ValueError, match="1 latents"):
        posterior_on_grid(exact(one), one, "")
    q = normal([[0.0, 0.0]], [[1.0, 1.0]])
    with pytest.raises(ValueError, match="2 names for 1 posteriors"):
        posterior_on_grid(exact(q), q, "", names=["a", "b"])


def test_means_are_drawn_by_class_and_the_prior_as_circles_of_its_masses():
    mean = torch.randn(40, 3, generator=generator(0, "means"))
    q = Normal(mean, torch.full((40, 3), -0.5))
    figure = aggregate_posterior(q, torch.arange(40) % 4, "a model", units=(2, 0))
    (axes,) = drawn(figure)
    np.testing.assert_allclose(axes.collections[0].get_offsets(), mean[:, [2, 0]], rtol=1e-6)
    np.testing.assert_array_equal(axes.collections[0].get_array(), np.arange(40) % 4)
    for line, mass in zip(axes.lines, (0.5, 0.9, 0.99), strict=True):
        radius = np.hypot(*line.get_data())
        np.testing.assert_allclose(stats.chi2.cdf(radius**2, 2), mass)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("z of unit 2", "z of unit 0")
    assert legend(figure) == ["0", "1", "2", "3", "q(z), of all examples", "prior N(0, I)"]
    assert fits(figure)


def test_an_encoder_that_says_the_prior_has_contours_on_the_circles():
    q = Normal(torch.zeros(5, 2), torch.zeros(5, 2))
    figure = aggregate_posterior(q, None, "collapsed")
    (axes,) = drawn(figure)
    contours = axes.collections[1]
    for path, mass in zip(contours.get_paths(), (0.99, 0.9, 0.5), strict=True):
        radius = np.hypot(*path.vertices.T)
        # The axes end at 3.3, beyond which lies .4 % of the prior; a grid cell is .05 wide.
        np.testing.assert_allclose(stats.chi2.cdf(radius**2, 2), mass, atol=0.01)
    assert len(legend(figure)) == 2


def test_a_unit_or_labels_that_there_are_not_are_refused():
    q = Normal(torch.zeros(5, 2), torch.zeros(5, 2))
    with pytest.raises(ValueError, match=r"units=\(0, 2\): choose two of 0 to 1"):
        aggregate_posterior(q, None, "", units=(0, 2))
    with pytest.raises(ValueError, match="4 labels for 5 examples"):
        aggregate_posterior(q, torch.zeros(4, dtype=torch.long), "")


# A run, and several


def metrics():
    """As a CSV logger writes it: rows of the training between those of the callback."""
    rows = []
    for epoch in range(3):
        rows.append({"epoch": epoch, "step": 10 * epoch + 9, "train/loss_nats": 1.0})
        rows.append({"epoch": epoch, "step": 10 * epoch + 10, "val/elbo": -100.0 + epoch})
        rows.append(
            {
                "epoch": epoch, "step": 10 * epoch + 10, "latent/active_units": 3 - epoch,
                "latent/kl_unit00": 0.1 * epoch, "latent/kl_unit01": 2.0 + epoch,
                "latent/kl_unit02": 1.0,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def test_units_are_drawn_by_their_last_kl_after_each_epoch():
    figure = units_over_epochs(metrics(), "a run")
    heat, active, bound, colours = drawn(figure)
    values = np.asarray(heat.collections[0].get_array())
    np.testing.assert_allclose(values, [[2, 3, 4], [1, 1, 1], [0, 0.1, 0.2]])
    assert [t.get_text() for t in heat.get_yticklabels()] == ["1", "2", "0"]
    assert heat.get_ylim() == (3.5, 0.5)  # the largest on top
    assert heat.get_xlim() == (0.5, 3.5)  # epochs done: 1, 2, 3
    assert "nats" in colours.get_ylabel()
    assert [list(v) for v in active.lines[0].get_data()] == [[1, 2, 3], [3, 2, 1]]
    assert [list(v) for v in bound.lines[0].get_data()] == [[1, 2, 3], [-100, -99, -98]]
    assert "nats per example" in bound.get_ylabel()
    assert bound.get_xlabel() == "epochs of training"
    assert fits(figure)


def test_what_was_not_logged_has_no_panel():
    table = metrics()
    assert len(drawn(units_over_epochs(table.drop(columns="latent/active_units"), ""))) == 3
    assert len(drawn(units_over_epochs(table.drop(columns="val/elbo"), ""))) == 3
    assert units_over_epochs(table[["epoch", "step", "val/elbo"]], "") is None
    assert units_over_epochs(table.iloc[:2], "") is None
    one = units_over_epochs(table.iloc[:3], "one epoch")
    assert drawn(one)[0].get_xlim() == (0.5, 1.5)


def test_two_layers_have_a_line_each():
    table = metrics()[["epoch", "latent/active_units"]]
    table = table.rename(columns={"latent/active_units": "latent/active_units_h1"})
    table["latent/active_units_h2"] = table["latent/active_units_h1"] + 1
    (active,) = drawn(units_over_epochs(table, "two layers"))
    assert [list(line.get_ydata()) for line in active.lines] == [[3, 2, 1], [4, 3, 2]]
    assert [text.get_text() for text in active.get_legend().get_texts()] == ["h1", "h2"]


def bounds(site=""):
    return [
        {
            "metric": "bound", "site": site, "element": f"k{k}", "estimate": -90 - 10 / k,
            "low": -92 - 10 / k, "high": -89 - 10 / k,
        }
        for k in (50, 1, 5000, 5)
    ]  # fmt: skip


def test_bounds_rise_along_k_to_the_exact_line():
    rows = [*bounds("plain"), *bounds("of_dreg")]
    rows.append({"metric": "ess", "site": "plain", "element": "k1", "estimate": 9.0})
    figure = bound_by_k(pd.DataFrame(rows), "ten images", exact=-89.5)
    (axes,) = drawn(figure)
    assert axes.get_xscale() == "log"
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "5", "50", "5,000"]
    for container in axes.containers:
        line, _, (bars,) = container
        assert list(line.get_xdata()) == [1, 5, 50, 5000]
        np.testing.assert_allclose(line.get_ydata().astype(float), [-100, -92, -90.2, -90.002])
        np.testing.assert_allclose(bars.get_segments()[0][:, 1], [-102, -99])
    (exact_line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert set(exact_line.get_ydata()) == {-89.5}
    assert sorted(legend(figure)) == ["exact log p(x)", "of dreg", "plain"]
    assert "nats per example" in axes.get_ylabel()
    assert fits(figure)


def test_bounds_are_drawn_where_log_p_is_not_known_and_nothing_without_bounds():
    figure = bound_by_k(pd.DataFrame(bounds()), "")
    assert drawn(figure) and legend(figure) == ["bound"]
    assert bound_by_k(pd.DataFrame(bounds()).iloc[:0], "") is None


def test_models_stand_at_their_rate_and_distortion_over_lines_of_slope_minus_one():
    table = pd.DataFrame(
        {"beta": [4, 1, 1, 0.5], "rate": [5, 20, 22, 30], "distortion": [100.0, 70, 71, 65]}
    )
    figure = rate_distortion(table, "four models")
    (axes,) = drawn(figure)
    curve, points, best, *others = axes.lines
    assert [list(v) for v in curve.get_data()] == [[30, 21, 5], [65, 70.5, 100]]
    assert [list(v) for v in points.get_data()] == [[5, 20, 22, 30], [100, 70, 71, 65]]
    np.testing.assert_allclose(best.get_xdata() + best.get_ydata(), 90)  # of β = 1, 20 + 70
    totals = [float(line.get_xdata()[0] + line.get_ydata()[0]) for line in others]
    assert len(totals) >= 2 and all(total > 90 for total in totals)
    for line, total in zip(others, totals, strict=True):
        np.testing.assert_allclose(line.get_xdata() + line.get_ydata(), total)
    names = {text.get_text(): text.xy for text in axes.texts}
    assert names == {"β = 0.5": (30, 65), "β = 1": (21, 70.5), "β = 4": (5, 100)}
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert said[0] == "rate + distortion of the best ELBO, −90.0 nats"
    assert float(said[1].split()[2]) == pytest.approx(totals[1] - totals[0])
    assert all("nats per example" in label for label in (axes.get_xlabel(), axes.get_ylabel()))
    assert fits(figure)


def test_one_model_is_a_point_and_none_is_refused():
    one = pd.DataFrame({"beta": [0.0], "rate": [3.0], "distortion": [9.0]})
    assert fits(rate_distortion(one, "one"))
    with pytest.raises(ValueError, match="0 models"):
        rate_distortion(one.iloc[:0], "")


# One latent


def test_the_curve_lies_over_the_density_with_its_latents_and_the_samples_beside():
    x1, x2 = torch.linspace(-1, 2, 31), torch.linspace(-2, 2, 41)
    density = torch.rand(31, 41, generator=generator(0, "density"))
    z = torch.linspace(-1.5, 1.5, 301)
    curve = torch.stack([z / 2, z.square()], 1)
    samples = torch.randn(20, 2, generator=generator(0, "samples")) / 4
    point = torch.tensor([0.9, -0.9])
    figure = curve_over_density(x1, x2, density, z, curve, samples, point, "a model")
    left, right, colours = drawn(figure)
    for axes in (left, right):
        heat = np.asarray(axes.collections[0].get_array()).reshape(41, 31)
        np.testing.assert_array_equal(heat, density.T)
        star = next(line for line in axes.lines if line.get_marker() == "*")
        np.testing.assert_allclose(star.get_xydata(), [[0.9, -0.9]], rtol=1e-6)
    path, marks = [line for line in left.lines if line.get_color() == "C3"]
    np.testing.assert_allclose(path.get_xydata(), curve)
    np.testing.assert_allclose(marks.get_xydata(), [[-0.5, 1], [0, 0], [0.5, 1]], atol=1e-6)
    assert [text.get_text() for text in left.texts] == ["−1", "0", "1"]
    cloud = next(line for line in right.lines if line.get_color() == "C1")
    np.testing.assert_array_equal(cloud.get_xydata(), samples)
    assert "density" in colours.get_ylabel()
    assert left.get_legend().get_texts()[0].get_text() == "x = (0.9, −0.9)"
    assert fits(figure)


def test_a_posterior_stands_beside_the_standard_normal():
    axis = torch.linspace(-8, 8, 321, dtype=torch.float64)
    density = torch.from_numpy(stats.norm.pdf(axis.numpy(), 1, 0.2))
    figure = posterior_and_prior(axis, density, "one x")
    (axes,) = drawn(figure)
    by_label = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(by_label["posterior p(z|x)"].get_ydata(), density)
    np.testing.assert_allclose(by_label["prior N(0, 1)"].get_ydata(), stats.norm.pdf(axis))
    assert axes.get_ylabel() == "density (per unit of z)"
    assert fits(figure)
