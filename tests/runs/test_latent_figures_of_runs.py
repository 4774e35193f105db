"""A run of a latent model leaves the pictures that there is something to draw for."""

from udl_lab.configuration import compose
from udl_lab.runs.execute import execute
from udl_lab.runs.reopen import load_run

import pytest  # isort: skip  # udl_lab repairs torchvision, for lightning
import torch  # isort: skip

from udl_lab.data.digits import digits  # isort: skip
from udl_lab.latent.posterior_gap import elbo_on_grid  # isort: skip
from udl_lab.latent.quadrature import log_evidence, log_likelihood_of  # isort: skip
from udl_lab.runs.latent_figures import _rounded, draw_latent  # isort: skip

pytestmark = pytest.mark.slow  # a dozen runs with all their pictures

TINY = (
    *("data=digits", "augment=latent_noise", "net=mlp_vae", "model=vae"),
    *("measure=[latent,posterior_gaps]", "callbacks=track_latent", "data.mean=0.0", "data.std=1.0"),
    *("data.n_train=300", "data.n_validation=50", "data.batch_size=50", "net.latent=2"),
    *("net.widths=[8]", "model.optimizer.lr=0.01", "measure.latent.rungs=[1, 5]"),
    *("measure.latent.n_ladder=20", "measure.latent.n_information=20", "measure.posterior.n=3"),
    *("measure.posterior.n_grid=61", "measure.posterior.n_nodes=4", "measure.posterior.ks=[1, 5]"),
    *("logger=csv", "trainer.max_epochs=1", "trainer.enable_progress_bar=false"),
)
FACTORS = (
    *("data=factors", "augment=latent_noise", "net=linear_vae", "model=vae", "measure=ppca"),
    *("augment.binarise=none", "data.batch_size=1000", "logger=csv", "trainer.max_epochs=1"),
    "trainer.enable_progress_bar=false",
)
OF_ANY = {"learning_curves"}
OF_IMAGES = OF_ANY | {"units_over_epochs", "bound_by_k", "reconstructions"}
OF_TWO_LATENTS = {"manifold", "posterior_on_grid"}


def run(folder, *overrides):
    return load_run(execute(compose([*overrides, f"run_dir={folder}"]), quiet=True).path)


def kept(*groups):
    """The overrides of the tiny run but for those of some groups."""
    gone = tuple(f"{group}{end}" for group in groups for end in ("=", "."))
    return [override for override in TINY if not override.startswith(gone)]


@pytest.fixture(scope="module")
def two_latents(tmp_path_factory):
    return run(tmp_path_factory.mktemp("two") / "run", *TINY)


def drawn_again(reopened, table=None, metrics=None):
    rows = reopened.results.reset_index(drop=True) if table is None else table
    test = reopened.data.test
    return draw_latent(reopened.config, reopened.model, rows, metrics, test, "a run")


def test_two_latents_of_images_leave_every_picture(two_latents):
    every = OF_IMAGES | OF_TWO_LATENTS | {"traversals", "aggregate_posterior", "bound_by_k_exact"}
    assert set(two_latents.figures) == every
    assert all(path.stat().st_size > 5000 for path in two_latents.figures.values())


def test_pictures_are_drawn_of_the_test_images_and_of_what_they_decode_to(two_latents):
    figures = drawn_again(two_latents)
    (axes,) = figures["reconstructions"].axes
    canvas = axes.images[0].get_array()[:, :, 0]
    chosen = torch.from_numpy(canvas[:28, :28])
    test = two_latents.data.test.x[:, 0].double()
    found = (test == chosen).all(1).all(1).nonzero()[0]  # the first cell is a test image
    with torch.no_grad():
        decoded = two_latents.net(two_latents.data.test.x[found])[0, 0].double()
    # And below it, after a gap of two pixels, what the mean of its posterior decodes to.
    torch.testing.assert_close(torch.from_numpy(canvas[30:58, :28]), decoded, atol=1e-6, rtol=0)
    assert "units_over_epochs" not in figures  # no metrics were given


def test_the_kl_above_a_posterior_is_what_its_bound_lacks(two_latents):
    """Beside the same from a finer grid, to half of the last digit that is printed."""
    check_the_kl(two_latents)


@pytest.mark.parametrize("wider", [0.7, -1.0])
def test_the_kl_is_right_where_q_is_far_wider_or_narrower_than_the_posterior(two_latents, wider):
    reopened = load_run(two_latents.folder.path)
    with torch.no_grad():
        reopened.net.encoder.output.bias[2:] += wider
        for p in reopened.net.decoder.parameters():
            p *= 2
    check_the_kl(reopened)


def check_the_kl(reopened):
    axes = drawn_again(reopened)["posterior_on_grid"].axes
    said = [a.get_title().split()[-2] for a in axes if a.get_title().startswith("KL")]
    net, test = reopened.net, reopened.data.test.x[:, 0]
    images = [torch.from_numpy(a.images[0].get_array()) for a in axes if a.images]
    assert len(said) == len(images) == 4
    rows = [int((test == image).all(1).all(1).nonzero()[0]) for image in images]
    x = reopened.data.test.x[rows]
    with torch.no_grad():
        exact = log_evidence(log_likelihood_of(net, x), 2, 601, reach=7.0)
        bound, error = elbo_on_grid(lambda z: net.log_joint(x, z), net.posterior(x), 1e-5)
    assert float((exact.error + error).max()) < 1e-4
    for text, nats in zip(said, (exact.log_prob - bound).tolist(), strict=True):
        digits = len(text.partition(".")[2])
        assert digits > 0
        assert float(text) == pytest.approx(nats, abs=1.1 * 0.5 * 10**-digits)


@pytest.mark.parametrize(
    ("error", "end"),
    [(0.004, "= 3.14 nats"), (0.02, "= 3.1 nats"), (0.3, "= 3 nats"), (0.6, "is not resolved")],
)
def test_only_digits_that_are_right_are_printed(error, end):
    assert _rounded(3.1416, error) == f"KL(q ‖ p(z|x)) {end}"


def test_the_exact_ladder_ends_below_the_line_by_the_shortfall(two_latents):
    figures = drawn_again(two_latents)
    (axes,) = figures["bound_by_k_exact"].axes
    assert axes.get_title() == "a run: 3 test examples"
    assert figures["bound_by_k"].axes[0].get_title() == "a run: 20 test examples"
    rows = two_latents.results["estimate"]
    level = rows["posterior/log_prob"]
    line, _, _ = axes.containers[0]
    shortfalls = [rows[f"posterior/shortfall@k{k}"] for k in (1, 5)]
    assert level - line.get_ydata().astype(float) == pytest.approx(shortfalls)
    (dashed,) = [each for each in axes.lines if each.get_linestyle() == "--"]
    assert set(dashed.get_ydata()) == {level}


def test_more_latents_have_no_manifold_and_are_seen_by_their_two_of_largest_kl(tmp_path):
    few = [*kept("net", "measure"), "net=mlp_vae", "net.latent=5", "net.widths=[8]"]
    reopened = run(tmp_path / "run", *few, "measure=latent", "measure.latent.rungs=[1, 5]")
    assert set(reopened.figures) == OF_IMAGES | {"traversals", "aggregate_posterior"}
    with torch.no_grad():
        kl = reopened.net.posterior(reopened.data.test.x).kl().mean(0)
    (axes,) = [a for a in drawn_again(reopened)["aggregate_posterior"].axes if a.has_data()]
    units = [int(label.split()[-1]) for label in (axes.get_xlabel(), axes.get_ylabel())]
    assert units == kl.topk(2).indices.tolist()
    assert "of 5" in axes.get_title()


@pytest.mark.parametrize(
    "options",
    [
        ("net=two_layer_vae", "net.latents=[4, 2]", "net.widths=[8]", "net.upper_widths=[5]"),
        ("net=mlp_vae", "net.latent=2", "net.prior=vamp", "net.n_pseudo=5"),
    ],
)
def test_pictures_of_n_0_1_are_not_drawn_of_another_prior(options, tmp_path):
    few = [*kept("net", "measure"), *options, "measure=latent", "measure.latent.rungs=[1, 5]"]
    assert set(run(tmp_path / "run", *few).figures) == OF_IMAGES


def test_examples_that_are_no_images_have_their_latents_drawn_only(tmp_path):
    reopened = run(tmp_path / "run", *FACTORS, "net.latent=4")
    assert set(reopened.figures) == OF_ANY | {"aggregate_posterior"}
    two = run(tmp_path / "two", *FACTORS, "net.latent=2")
    assert set(two.figures) == OF_ANY | {"aggregate_posterior", "posterior_on_grid"}


def test_normalised_images_are_drawn_as_they_were_published(tmp_path):
    grey = [*kept("net", "measure", "data.mean", "data.std"), "augment.binarise=none"]
    grey += ["net=conv_vae", "net.channels=2", "net.width=8", "net.head=gaussian", "measure=latent"]
    reopened = run(tmp_path / "run", *grey, "measure.latent.rungs=[1, 5]")
    (axes,) = drawn_again(reopened)["reconstructions"].axes
    first = torch.from_numpy(axes.images[0].get_array()[:28, :28, 0])
    published = digits("").test.x[:, 0].double()
    # Of pixels up to 1, normalised and back in single precision.
    assert float((published - first).abs().amax((1, 2)).min()) < 1e-6
    assert {"manifold", "posterior_on_grid"} <= set(reopened.figures)


def test_a_model_that_is_not_finite_has_no_pictures(two_latents):
    reopened = load_run(two_latents.folder.path)
    with torch.no_grad():
        reopened.net.encoder.output.bias.fill_(torch.nan)
    rows = reopened.results.reset_index(drop=True)
    assert drawn_again(reopened, rows[rows["measure"] == "run"]) == {}


def test_a_posterior_too_narrow_for_a_grid_of_seconds_is_left_out(two_latents):
    reopened = load_run(two_latents.folder.path)
    with torch.no_grad():
        reopened.net.encoder.output.bias[2:].fill_(-9)
    figures = drawn_again(reopened)
    assert "posterior_on_grid" not in figures and "aggregate_posterior" in figures
