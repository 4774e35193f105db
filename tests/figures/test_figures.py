"""Every figure is drawn from a table, labelled, and drawn still when rows are missing."""

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from udl_lab.figures.by_element import rho_by_element
from udl_lab.figures.learning_curves import learning_curves
from udl_lab.figures.weight_images import weight_images


def rows(metric, values, site="", measure="rotation"):
    return [
        {
            "measure": measure, "metric": metric, "site": site, "element": element,
            "estimate": value, "low": value - 0.05, "high": value + 0.02,
        }
        for element, value in values.items()
    ]  # fmt: skip


ANGLES = {"": 0.5, "+90": 0.75, "-90": 0.7, "+180": 0.25}
TABLE = pd.DataFrame(
    [
        *rows("accuracy", {"": 0.8}, measure="test"),
        *rows("accuracy_of_commonest_class", {"": 0.125}, measure="test"),
        *rows("rho", ANGLES, site="pixels"),
        *rows("rho", ANGLES, site="output"),
        *rows("rho", {"": 0.9, "+90": 0.9}, site="hidden"),
        *rows("rho_round_trip", {"+90": 0.0, "-90": 0.1, "+180": 0.0}, site="output"),
        *rows("rho_untrained", {"": 0.9}, site="output"),
        *rows("accuracy", {"": 0.5, "identity": 0.8, "+90": 0.4, "-90": 0.3, "+180": 0.6}),
        *rows("rho", {"": 1, "right1": 0.5, "left2up2": 1.5}, "output", "translation"),
        *rows("rho", {"": 1, "horizontal": 0.5, "both": 0.25}, "output", "flip"),
        *rows("accuracy", {"identity": 0.8, "horizontal": 0.5, "both": 0.25}, measure="flip"),
    ]
)


def all_axes(figure):
    """After drawing, which would raise what is wrong."""
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    return figure.axes


def legend(figure):
    parts = [figure, *figure.subfigs]
    return [text.get_text() for part in parts for lg in part.legends for text in lg.get_texts()]


def line(axes, label):
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return found


def test_rho_is_drawn_at_its_angle_with_the_identity_at_0_and_the_circle_closed():
    left, right = all_axes(rho_by_element(TABLE, "rotation", "output", "a run"))
    rho = line(left, "trained network")
    assert list(rho.get_xdata()) == [-180, -90, 0, 90, 180]
    assert list(rho.get_ydata()) == [0.25, 0.7, 0, 0.75, 0.25]
    accuracy = line(right, "transformed test images")
    assert list(accuracy.get_xdata()) == [-180, -90, 0, 90, 180]
    assert list(accuracy.get_ydata()) == [0.6, 0.3, 0.8, 0.4, 0.6]


def test_the_band_of_a_curve_is_its_interval():
    left, _ = all_axes(rho_by_element(TABLE, "rotation", "output", "a run"))
    band = left.collections[0].get_paths()[0].vertices
    assert {(x, round(y, 6)) for x, y in band} >= {(90, 0.7), (90, 0.77), (0, 0)}


def test_the_layer_asked_for_is_drawn_and_no_other():
    left, _ = all_axes(rho_by_element(TABLE, "rotation", "hidden", "a run"))
    assert list(line(left, "trained network").get_ydata()) == [0, 0.9]
    assert left.get_title() == "How far the layer “hidden” moves under rotation"


def test_rho_and_accuracy_have_units_legends_and_a_title():
    figure = rho_by_element(TABLE, "rotation", "output", "study/arm/seed0")
    left, right = all_axes(figure)
    assert figure.get_suptitle().startswith("study/arm/seed0")
    for axes in (left, right):
        assert axes.get_xlabel() == "rotation (degrees, counter-clockwise)"
    assert left.get_ylabel().startswith("ρ (0: invariant")
    assert right.get_ylabel() == "accuracy (share of images)"
    assert len(legend(figure)) == 5 + 3
    assert "always naming the commonest class" in legend(figure)


def test_titles_and_legends_fit_into_the_figure():
    site = "blocks.1.convolution"
    table = TABLE.replace({"site": {"output": site}})
    for figure in (
        rho_by_element(table, "rotation", site, "study/arm/seed0"),
        learning_curves(METRICS, "study/arm/seed0"),
    ):
        for axes in all_axes(figure):
            assert figure.bbox.containsx(axes.title.get_window_extent().x0)
            assert figure.bbox.containsx(axes.title.get_window_extent().x1)
        for part in [figure, *figure.subfigs]:
            for found in part.legends:
                box = found.get_window_extent()
                assert part.bbox.contains(box.x0, box.y0)
                assert part.bbox.contains(box.x1, box.y1)


def test_elements_that_are_no_angles_are_points_in_the_order_of_the_table():
    left, _ = all_axes(rho_by_element(TABLE, "translation", "output", "a run"))
    rho = line(left, "trained network")
    assert rho.get_linestyle() == "None"  # a line would say that something lies between them
    assert list(rho.get_ydata()) == [0.5, 1.5]
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["right1", "left2up2"]
    assert left.get_xlabel() == "translation (pixels)"
    assert left.get_ylim()[1] > 1.5
    left, _ = all_axes(rho_by_element(TABLE, "flip", "output", "a run"))
    assert left.get_xlabel() == "flip"


@pytest.mark.parametrize("metric", sorted(set(TABLE["metric"])))
def test_missing_metrics_leave_the_others_drawn(metric):
    for measure in ("rotation", "translation", "flip"):
        figure = rho_by_element(TABLE[TABLE["metric"] != metric], measure, "output", "a run")
        assert len(all_axes(figure)) == 2


def test_an_empty_table_is_drawn_as_empty_axes():
    figure = rho_by_element(TABLE[:0], "rotation", "output", "a run")
    left, right = all_axes(figure)
    assert left.get_ylabel().startswith("ρ")
    assert not right.lines


METRICS = pd.DataFrame(
    {
        "epoch": [0, 0, 0, 1, 1],
        "step": [2, 4, 4, 6, 8],
        "train/loss_nats": [2.0, 1.5, None, 1.25, 1.0],
        "train/accuracy": [0.25, 0.5, None, 0.5, 0.75],
        "val/loss_nats": [None, None, 1.75, None, None],
        "val/accuracy": [None, None, 0.25, None, None],
        "watch/test_accuracy": [None, 0.375, None, None, 0.5],
    }
)


def test_learning_curves_are_the_logged_points():
    loss, accuracy = all_axes(learning_curves(METRICS, "a run"))
    train = loss.lines[0]
    assert list(train.get_xdata()) == [2, 4, 6, 8]
    assert list(train.get_ydata()) == [2, 1.5, 1.25, 1]
    assert list(loss.lines[1].get_ydata()) == [1.75]
    assert list(accuracy.lines[2].get_xdata()) == [4, 8]
    assert list(accuracy.lines[2].get_ydata()) == [0.375, 0.5]


def test_learning_curves_have_units_a_legend_and_a_colour_for_each_split():
    figure = learning_curves(METRICS, "study/arm/seed0")
    loss, accuracy = all_axes(figure)
    assert figure.get_suptitle() == "study/arm/seed0"
    assert loss.get_ylabel() == "cross-entropy (nats per example)"
    assert accuracy.get_ylabel() == "accuracy (share of examples)"
    assert {axes.get_xlabel() for axes in (loss, accuracy)} == {"optimiser step"}
    assert len(legend(figure)) == 3  # train, validation, watched test: once each
    colours = [line.get_color() for line in accuracy.lines]
    assert len(set(colours)) == 3
    assert [line.get_color() for line in loss.lines] == colours[:2]


@pytest.mark.parametrize(
    "columns",
    [["step"], ["step", "train/loss_nats"], ["step", "val/accuracy"], ["step", "lr-SGD"]],
)
def test_learning_curves_are_drawn_of_what_was_logged(columns):
    figure = learning_curves(METRICS.rename(columns={"epoch": "lr-SGD"})[columns], "a run")
    assert sum(len(axes.lines) for axes in all_axes(figure)) == ("/" in columns[-1])
    assert len(all_axes(figure)) == 1  # no empty panel


WEIGHT = torch.arange(-24.0, 24).reshape(3, 16)  # row by row, from -24 to 23


def test_weights_are_drawn_as_images_on_one_scale_symmetric_about_0():
    figure = weight_images(WEIGHT, ["a", "b", "c"], "output")
    pictures = [axes for axes in all_axes(figure) if axes.images]
    assert [axes.get_title() for axes in pictures] == ["a", "b", "c"]
    for axes, row in zip(pictures, WEIGHT, strict=True):
        (image,) = axes.images
        assert torch.equal(torch.as_tensor(image.get_array()), row.reshape(4, 4))
        assert image.get_clim() == (-24, 24)


def test_weights_have_a_title_and_a_colour_bar_with_a_unit():
    figure = weight_images(WEIGHT, ["a", "b", "c"], "the title")
    assert figure.get_suptitle() == "the title"
    assert all_axes(figure)[-1].get_ylabel().startswith("weight (per normalised pixel)")


def test_more_units_than_are_drawn_are_counted_in_the_title():
    figure = weight_images(WEIGHT, ["a", "b", "c"], "the title", most=2)
    assert figure.get_suptitle() == "the title (first 2 of 3)"
    assert sum(bool(axes.images) for axes in all_axes(figure)) == 2


def test_weights_that_are_all_zero_are_drawn():
    all_axes(weight_images(torch.zeros(2, 16), ["a", "b"], "zero"))


def test_a_parameter_that_asks_for_gradients_is_drawn():
    all_axes(weight_images(torch.nn.Linear(16, 3).weight, ["a", "b", "c"], "output"))


def test_weights_of_no_square_image_are_refused():
    with pytest.raises(ValueError, match="row of 12 weights is no square image"):
        weight_images(torch.zeros(2, 12), ["a", "b"], "no square")
