"""What is drawn of a diffusion run: its error by level, its samples, and how far they are off."""

import pandas as pd
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.learned import Learned
from udl_lab.diffusion.samplers import Trajectory, draw_prior
from udl_lab.diffusion.walks import DDIM, Walk, end, walk
from udl_lab.figures.budget_bars import budget_bars
from udl_lab.figures.distance_by_steps import distance_by_steps
from udl_lab.figures.loss_by_level import loss_by_level
from udl_lab.figures.sample_grids import eta_by_steps, same_start_grid, signal_grid
from udl_lab.figures.trajectories import density_and_trajectories, plane_samples
from udl_lab.models.diffusion import Diffusion
from udl_lab.probes.subject import evaluating
from udl_lab.randomness import generator

_STEPS = (5, 10, 20, 50)
_ETAS = (0.0, 0.5, 1.0)
_DISTANCES = ("w1", "sliced_w2", "frechet")


def draw_diffusion(
    cfg: DictConfig, model: Diffusion, table: pd.DataFrame, name: str
) -> dict[str, Figure]:
    """The figures that there is something to draw for, by the names of their files."""
    found = {
        "loss_by_level": loss_by_level(table, name),
        "budget": budget_bars(table, name),
        **{
            f"{measure}_{metric}_by_steps": distance_by_steps(rows, f"{name}: {measure}", metric)
            for measure, rows in table.groupby("measure", sort=False)
            for metric in _DISTANCES
        },
    }
    denoiser = model.denoiser()
    law = OmegaConf.select(cfg, "data.source.law")
    with evaluating(model.net):
        if len(cfg.example.shape) == 3:
            found |= _images(denoiser, name)
        elif len(cfg.example.shape) == 2:
            sampler = DDIM(min(50, denoiser.schedule.n_steps))
            found["samples"] = signal_grid(_end(sampler, denoiser, 32), f"{name}: {sampler.label}")
        elif law is not None:
            found |= _points(denoiser, law, name)
    return {file: figure for file, figure in found.items() if figure is not None}


def _images(denoiser: Learned, name: str) -> dict[str, Figure]:
    steps = [s for s in _STEPS if s <= denoiser.schedule.n_steps]
    rows = {f"{s} steps": _end(DDIM(s), denoiser, 8) for s in steps}
    panel = {(eta, s): _end(DDIM(s, eta), denoiser, 4) for eta in _ETAS for s in steps}
    return {
        "samples_by_steps": same_start_grid(rows, f"{name}: DDIM, η = 0"),
        "samples_by_eta": eta_by_steps(panel, f"{name}: DDIM"),
    }


def _points(denoiser: Learned, law: str, name: str) -> dict[str, Figure]:
    oracle = make_law(law, denoiser.schedule)
    steps = min(100, denoiser.schedule.n_steps)
    if oracle.means.shape[1] == 1:
        states = walk(DDIM(steps), denoiser, _noise(denoiser, 4000), generator(0, "drawn steps"))
        title = f"{name}: {DDIM(steps).label} over the exact density"
        figure = density_and_trajectories(oracle, Trajectory.record(states), title)
        return {"trajectories": figure}
    real = oracle.sample(2000, generator(0, "drawn data")).float()
    clouds = {
        f"DDIM, {s} steps": _end(DDIM(s), denoiser, 2000)
        for s in sorted({min(5, steps), min(20, steps), steps})
    }
    return {"samples": plane_samples(real, clouds, name)}


def _end(sampler: Walk, denoiser: Learned, n: int) -> Tensor:
    stream = generator(0, "drawn steps", sampler.label)
    return end(sampler, denoiser, _noise(denoiser, n), stream)


def _noise(denoiser: Learned, n: int) -> Tensor:
    in_shape = denoiser.net.in_shape
    assert isinstance(in_shape, tuple)
    return draw_prior(n, in_shape, generator(0, "drawn noise"), torch.float32)
