"""Every configuration that ships composes, passes its check and builds."""

import math

import pytest
from omegaconf import OmegaConf

from udl_lab.claims import read_claims
from udl_lab.configuration import (
    EXPERIMENTS,
    SYMMETRIES,
    arms,
    compose,
    groups,
    studies,
    symmetries,
)
from udl_lab.runs.build import build, build_data, build_model, build_net
from udl_lab.runs.option import make_option
from udl_lab.runs.signature import check

EVERY_ARM = [(study, arm) for study in studies() for arm in arms(study)]
EVERY_OPTION = [(group, option) for group, options in groups().items() for option in options]

# What goes together only with the rest of a denoiser's training.
DENOISER = ["model=diffusion", "augment=noise", "net=unet", "measure=denoising"]
OF_DENOISERS = [
    ("model", "diffusion"),
    *(
        ("measure", option)
        for option in (
            "bound",
            "denoising",
            "image_samples",
            "line_samples",
            "memorising",
            "signal_samples",
            "udl18",
            "vector_samples",
        )
    ),
]

# And with the rest of a latent model's.
LATENT = ["model=vae", "augment=latent_noise", "net=mlp_vae", "measure=latent"]
LATENT += ["data.mean=0", "data.std=1"]
OF_LATENTS = [
    ("model", "vae"),
    ("augment", "latent_noise"),
    *(("net", option) for option in ("conv_vae", "linear_vae", "mlp_vae", "two_layer_vae")),
    *(("measure", option) for option in ("latent", "latent_gradients", "posterior_gaps", "ppca")),
]


def test_studies_and_options_were_found():
    assert len(EVERY_ARM) >= 23
    assert len(EVERY_OPTION) >= 20


@pytest.mark.parametrize(("study", "arm"), EVERY_ARM)
def test_every_arm_builds_and_is_named_after_its_file(study, arm):
    cfg = compose([f"experiment={study}/{arm}"])
    check(cfg)
    assert (cfg.study, cfg.arm) == (study, arm)
    if "calculation" in cfg:
        assert callable(build(cfg.calculation, "calculation"))
        return
    assert build_model(cfg).net is not None
    assert build_data(cfg).batch_size == cfg.data.batch_size
    for name, node in [*cfg.measure.items(), *cfg.callbacks.items()]:
        assert build(node, name) is not None


# Of these latent models only.
FITTING = {"posterior_gaps": ["net.latent=2"], "ppca": ["net=linear_vae"]}


@pytest.mark.parametrize(("group", "option"), EVERY_OPTION)
def test_every_option_composes_and_passes_its_check(group, option):
    rest = DENOISER if (group, option) in OF_DENOISERS else []
    rest = LATENT if (group, option) in OF_LATENTS else rest
    cfg = compose([*rest, *FITTING.get(option, []), f"{group}={option}"])
    check(cfg)
    assert OmegaConf.to_container(cfg, resolve=True)


@pytest.mark.parametrize("recipe", ["modern", "burda2015_code"])
def test_every_recipe_of_a_latent_model_composes_and_passes_its_check(recipe):
    cfg = compose([*LATENT, f"model/optimizer={recipe}"])
    check(cfg)
    assert cfg.data.order == {"modern": "named", "burda2015_code": "file"}[recipe]


@pytest.mark.parametrize("symmetry", symmetries())
def test_every_symmetry_is_made_and_obeys_the_laws_that_it_claims(symmetry):
    make_option(SYMMETRIES, symmetry, {}).check((3, 1, 28, 28))


@pytest.mark.parametrize(("study", "arm"), EVERY_ARM)
def test_an_arm_is_a_short_difference(study, arm):
    lines = (EXPERIMENTS / study / f"{arm}.yaml").read_text().splitlines()
    assert len(lines) <= 20


@pytest.mark.parametrize("study", studies())
def test_a_study_asks_predicts_and_concludes(study):
    text = (EXPERIMENTS / study / "README.md").read_text()
    for heading in ("## Question", "## Prediction", "## Arms", "## Result", "## Source"):
        assert heading in text
    claims = read_claims(EXPERIMENTS / study / "claims.yaml")
    assert set(claims.arms()) <= set(arms(study))
    assert all(claim.source for claim in claims.claims)
    assert len({claim.name for claim in claims.claims}) == len(claims.claims)


@pytest.mark.parametrize(
    ("experiment", "n_parameters"),
    [
        ("lab04_rotation/plain", 7_850),
        ("jax_mnist/base", 936_330),
        ("jax_mnist/underfit", 3_190),
        ("jax_mnist/overfit", 5_347_722),
        ("jax_mnist/convnet_stride1", 638_342),
        ("jax_mnist/convnet_stride2", 46_982),
        ("mnist1d_baselines/logistic", 410),
        ("mnist1d_baselines/mlp", 15_210),
        ("mnist1d_baselines/cnn", 5_210),
        ("mnist_features/classifier", 86_018),
        # 784-200-200-2·50 and 50-200-200-784, with biases
        ("vae_mnist/full", 157_000 + 40_200 + 20_100 + 10_200 + 40_200 + 157_584),
    ],
)
def test_the_networks_have_the_published_number_of_parameters(experiment, n_parameters):
    net = build_net(compose([f"experiment={experiment}"]))
    assert sum(math.prod(p.shape) for p in net.parameters()) == n_parameters
