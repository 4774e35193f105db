"""Examples drawn from a run's model, with a picture of them."""

import math
import time
import warnings
from pathlib import Path
from typing import Literal

import torch

from udl_lab.configuration import SAMPLERS
from udl_lab.diffusion.denoisers import Clipped, Denoiser
from udl_lab.diffusion.samplers import PriorGapWarning, draw_prior
from udl_lab.diffusion.walks import Walk, end
from udl_lab.errors import UsageError
from udl_lab.models.diffusion import Diffusion
from udl_lab.models.vae import VAE
from udl_lab.probes.subject import evaluating
from udl_lab.randomness import generator
from udl_lab.runs.option import make_option
from udl_lab.runs.prior_sampling import sample_prior
from udl_lab.runs.reopen import Run, load_run
from udl_lab.runs.report import terminal
from udl_lab.runs.sample_files import draw, write


def sample(
    path: str,
    sampler: str | None,
    changes: dict[str, str],
    n: int,
    seed: int,
    label: int | None,
    guidance: float,
    weights: Literal["best", "last"] | None,
    average: bool,
    clip: bool,
) -> Path:
    """Draw, and write `samples/<sampler>_seed<seed>.npz` and `.png` into the run's folder.

    Nothing is written before everything is drawn. A latent model's latents come from its prior,
    without a sampler: `sample_prior`.

    Args:
        path: the run's folder.
        sampler: a file of `configs/sampler`; `None` for a latent model, or else DDIM.
        changes: arguments of the sampler that replace those of the file, as typed.
        n: how many examples.
        seed: of the noise.
        label: the class to draw; `None` for any.
        guidance: classifier-free guidance towards the label.
        weights: which checkpoint; `None` for the one that the run itself measured.
        average: whether to take the average of weights, if the run kept one.
        clip: whether x̂_0 is kept in [−1, 1] at every step.

    Returns:
        The file with the examples: `x`, in the units that the network was trained in.

    Raises:
        UsageError: for a run without a diffusion model, an unknown class or argument, or a plan
            that the schedule does not allow.
    """
    run = load_run(path, weights)
    if isinstance(run.model, VAE):
        _refuse_walks(run, sampler, changes, label, guidance, clip)
        marks = "_".join(["", *_weights_names(run, weights, average)])
        return sample_prior(run, n, seed, average, marks)
    sampler = sampler or "ddim"
    settled: Walk = make_option(SAMPLERS, sampler, changes)
    model = _model(run, average)
    denoiser = _denoiser(model, n, label, guidance)
    guided: Denoiser = Clipped(denoiser, -1.0, 1.0) if clip else denoiser
    noise = draw_prior(n, tuple(model.net.in_shape), generator(seed, "sample"))
    began = time.perf_counter()
    try:
        with warnings.catch_warnings(record=True) as said, evaluating(model.net):
            warnings.simplefilter("always", PriorGapWarning)
            x = end(settled, guided, noise, generator(seed, "sample", "steps"))
    except ValueError as error:
        raise UsageError(f"sampler={sampler}: {error}") from error
    seconds = time.perf_counter() - began
    name = "_".join(
        [settled.label]
        + ([] if label is None else [f"class{label}"])
        + ([f"guidance{guidance:g}"] if guidance else [])
        + (["clipped"] if clip else [])
        + _weights_names(run, weights, average)
        + [f"seed{seed}"]
    )
    cfg = run.config
    folder = run.folder.path / "samples"
    folder.mkdir(exist_ok=True)
    file = write(folder / f"{name}.npz", {"x": x})
    title = f"{cfg.study}/{cfg.arm}, seed {cfg.seed}: {name}"
    picture = draw(x, title, file.with_suffix(".png"))
    console = terminal()
    for warning in said:
        console.print(f"note:     {warning.message}", soft_wrap=True, highlight=False)
    console.print(f"sampled:  {n} in {seconds:.1f} s, {settled}", soft_wrap=True, highlight=False)
    console.print(f"examples: {file}", soft_wrap=True, highlight=False)
    console.print(f"figure:   {picture}", soft_wrap=True, highlight=False)
    return file


def _model(run: Run, average: bool) -> Diffusion:
    model = run.model
    if not isinstance(model, Diffusion):
        raise UsageError(
            f"{run.folder.path} holds a {type(model).__name__}, which draws nothing; give a run "
            "with model=diffusion or model=vae"
        )
    if average:
        return model
    if not isinstance(run.last_weights, Diffusion):
        raise UsageError(
            f"{run.folder.path} kept no average of weights: it has one set only; leave out "
            "average=false"
        )
    return run.last_weights


def _denoiser(model: Diffusion, n: int, label: int | None, guidance: float) -> Denoiser:
    n_classes = getattr(model.net, "n_classes", None)
    if label is None:
        if guidance:
            raise UsageError(f"guidance={guidance:g} is towards a class; give label=… as well")
        return model.denoiser()
    if not n_classes:
        raise UsageError(f"label={label}: this network was trained without labels; leave it out")
    if label >= n_classes:
        raise UsageError(f"label={label}: this network knows the classes 0 to {n_classes - 1}")
    if guidance and not model.drop_labels:
        raise UsageError(
            f"guidance={guidance:g} needs a network that was trained without labels at times: "
            "model.drop_labels=0.1 when training"
        )
    if not math.isfinite(guidance):
        raise UsageError(f"guidance={guidance}: give a finite number")
    return model.denoiser(torch.full((n,), label), guidance)


def _refuse_walks(
    run: Run,
    sampler: str | None,
    changes: dict[str, str],
    label: int | None,
    guidance: float,
    clip: bool,
) -> None:
    """Refuse what only a diffusion model is told."""
    given = {
        f"sampler={sampler}": sampler is not None,
        **{f"sampler.{key}={value}": True for key, value in changes.items()},
        f"label={label}": label is not None,
        f"guidance={guidance:g}": guidance != 0,
        "clip=true": clip,
    }
    for word, is_given in given.items():
        if is_given:
            raise UsageError(
                f"{word}: {run.folder.path} holds a latent model, which is drawn from its prior "
                "without a sampler, labels or steps; leave it out"
            )


def _weights_names(run: Run, weights: str | None, average: bool) -> list[str]:
    """What the files' names say of other weights than the run's own."""
    other = [] if weights in (None, run.config.weights) else [f"{weights}_checkpoint"]
    return other + ([] if average else ["last_weights"])
