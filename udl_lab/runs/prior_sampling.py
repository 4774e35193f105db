"""Examples drawn from a run's latent model: latents of the prior, decoded."""

import time
from pathlib import Path

from udl_lab.errors import UsageError
from udl_lab.models.vae import VAE
from udl_lab.probes.subject import evaluating
from udl_lab.randomness import generator
from udl_lab.runs.reopen import Run
from udl_lab.runs.report import terminal
from udl_lab.runs.sample_files import draw, write


def sample_prior(run: Run, n: int, seed: int, average: bool = True, marks: str = "") -> Path:
    """Draw, and write `samples/prior_seed<seed>.npz` and pictures of means and draws beside it.

    Args:
        run: a reopened run of a latent model.
        n: how many examples.
        seed: of the latents and the pixels.
        average: whether to take the average of weights, if the run kept one.
        marks: what else the files' names say.

    Returns:
        The file with `x`, draws of p(x|z), and `mean`, E[x|z] of the same latents.

    Raises:
        UsageError: for a run without a latent model, or one average too few.
    """
    model = run.model if average else run.last_weights
    if model is None:
        raise UsageError(
            f"{run.folder.path} kept no average of weights: it has one set only; leave out "
            "average=false"
        )
    if not isinstance(model, VAE):
        raise UsageError(
            f"{run.folder.path} holds a {type(model).__name__}, which has no latents to draw; give "
            "a run with model=vae"
        )
    net, began = model.net, time.perf_counter()
    with evaluating(net):
        outputs = net.decode(net.sample_prior(n, generator(seed, "sample")))
        mean = net.head.mean(outputs).reshape(n, *net.in_shape)
        x = net.head.sample(outputs, generator(seed, "sample", "pixels")).reshape(mean.shape)
    seconds = time.perf_counter() - began
    cfg, name = run.config, f"prior{marks}_seed{seed}"
    folder = run.folder.path / "samples"
    folder.mkdir(exist_ok=True)
    file = write(folder / f"{name}.npz", {"x": x, "mean": mean})
    title = f"{cfg.study}/{cfg.arm}, seed {cfg.seed}: {name}"
    pictures = {
        "draws": draw(x, f"{title}, draws of p(x|z)", file.with_suffix(".png"), 0.0),
        "means": draw(mean, f"{title}, E[x|z]", folder / f"{name}_mean.png", 0.0),
    }
    console = terminal()
    said = {"sampled": f"{n} in {seconds:.1f} s, from the prior", "examples": str(file), **pictures}
    for key, value in said.items():
        console.print(f"{key + ':':<10}{value}", soft_wrap=True, highlight=False)
    return file
