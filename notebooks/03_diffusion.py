# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Where does the error of a diffusion sampler come from?
#
# This notebook opens a finished run of `udl18_mixture/mlp`: a small network that learned to take the noise off a mixture
# of four normals, over the 100 levels of the book's notebook 18.2. Of this law the exact score is known, so every
# part of the sampler's error can be told from the others. It only loads, looks and draws. Make the run first (a few
# minutes), from the project's folder:
#
#     python -m udl_lab.train experiment=udl18_mixture/mlp run_dir=runs/notebook03
#
# Set `UDL_RUN` to look at another run on a line, for example of `ddim_steps/three_modes`.

# %%
# %matplotlib inline
import os

import matplotlib
import torch
from IPython.display import display

from udl_lab.diffusion.laws import make_law
from udl_lab.diffusion.plan import make_plan, prior_gap
from udl_lab.diffusion.samplers import Trajectory, ddim, draw_prior, last
from udl_lab.figures.budget_bars import budget_bars
from udl_lab.figures.distance_by_steps import distance_by_steps
from udl_lab.figures.loss_by_level import loss_by_level
from udl_lab.figures.trajectories import density_and_trajectories
from udl_lab.probes.line_samples import Cdf, quantiles
from udl_lab.randomness import generator
from udl_lab.runs.reopen import load_run
from udl_lab.sample_quality.line import midpoints, wasserstein_to_law

matplotlib.rcParams["figure.dpi"] = 75  # small enough to be kept beside its script
run = load_run(os.environ.get("UDL_RUN", "runs/notebook03"))
cfg = run.config
name = f"{cfg.study}/{cfg.arm}/seed{cfg.seed}"
table = run.results.reset_index(drop=True)
denoiser = run.model.denoiser()
schedule = denoiser.schedule
law = make_law(cfg.data.source.law, schedule)
print(
    f"{name}: the law {cfg.data.source.law!r}, {schedule.n_steps} levels of the {schedule.name} schedule"
)

# %% [markdown]
# ## What there is to learn
#
# The loss of a perfect network is not 0: of a noisy number nobody can tell the noise. The floor is the error of the exact
# conditional mean, computed from the law. What a network can learn is all above it, and that is little: look at the right
# panel, on its own scale, not at the loss. (The floor of the left panel is a mean over other draws than the error.)

# %%
display(loss_by_level(table[table["site"] == ""], name))
rows = run.results["estimate"]
found, exact = rows["denoising/eps_error"], rows["denoising/eps_error_exact"]
print(
    f"the network's error {found:.5f}, the exact conditional mean's on the same noise {exact:.5f}"
)
share = rows["denoising/excess"] / rows["denoising/floor"]
print(f"the network misses the floor by {share:.2%} of it")

# %% [markdown]
# ## What the sampler does
#
# The colours are the exact density of every level; the lines are walks of the network's sampler, from noise at the left to
# data at the right. Behind the last level stands the data's density, and over it where 4,000 walks ended.

# %%
plan = make_plan(schedule, min(100, schedule.n_steps))
walk = ddim(denoiser, plan, draw_prior(4000, (1,), generator(0, "notebook")))
display(density_and_trajectories(law, Trajectory.record(walk), f"{name}: DDIM, {len(plan)} steps"))

# %% [markdown]
# ## How far it ends from the law, and whose fault that is
#
# Walks start from the quantiles of N(0, 1), so there is no sampling noise in these distances. The dashed curve is the same
# sampler with the exact score: the network can take the error no further down. The dotted one also starts from the true law of
# the last level.

# %%
display(distance_by_steps(table[table["measure"] == "samples"], name, "w1"))
display(budget_bars(table, name))

# %% [markdown]
# The schedule ends before everything is noise: this much signal is left at the last level, and starting from N(0, 1)
# pretends that there is none.

# %%
left = float(schedule.alpha_bar[-1])
print(f"ᾱ at level {schedule.n_steps}: {left:.4f}; {left**0.5:.0%} of the signal's amplitude")
print(
    f"cost of starting there from N(0, 1): at most {prior_gap(schedule, schedule.n_steps):.3f} nats"
)

# %% [markdown]
# ## A check by hand
#
# The same number without the lab's table: push the quantiles of N(0, 1) through the exact score's sampler and compare with
# the law.

# %%
noise = torch.special.ndtri(midpoints(4000)).unsqueeze(1)
cdf = Cdf(law)
for steps in (5, 10, 20):
    ends = last(ddim(law, make_plan(schedule, steps), noise))[:, 0]
    print(f"exact score, {steps:>2} steps: W1 = {wasserstein_to_law(ends, cdf):.4f}")
start = quantiles(law, midpoints(4000), schedule.n_steps).unsqueeze(1)
ends = last(ddim(law, plan, start))[:, 0]
print(f"exact score and true start, {len(plan)} steps: W1 = {wasserstein_to_law(ends, cdf):.4f}")
