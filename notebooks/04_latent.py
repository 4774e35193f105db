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
# # Why does a VAE's bound fall short, and whose fault is it?
#
# This notebook opens a finished run of `posterior_gap/elbo`: a VAE with two latents, trained by the ELBO on 10,000 binary
# digits. With two latents the integral log p(x) = log ∫ p(x|z) p(z) dz is a sum over a grid, so the exact log-likelihood
# and the exact posterior stand beside every bound. It only loads, looks and draws. Make the run first (a minute or two), from
# the project's folder:
#
#     python -m udl_lab.train experiment=posterior_gap/elbo seed=1 callbacks=track_latent run_dir=runs/notebook04 \
#         data.root=$PWD/../shared/data
#
# Give `data.root` as a whole path, because the notebook runs in a folder of its own. Set `UDL_RUN` to look at another run with
# two latents, for example of `posterior_gap/iwae5`, or of `net=conv_vae`.

# %%
# %matplotlib inline
import math
import os
from dataclasses import replace

import matplotlib
import pandas as pd
import torch
from IPython.display import display
from matplotlib.figure import Figure

from udl_lab.figures.aggregate_posterior import aggregate_posterior
from udl_lab.figures.bound_by_k import bound_by_k
from udl_lab.figures.latent_manifold import latent_manifold, manifold_latents
from udl_lab.figures.posterior_on_grid import posterior_on_grid
from udl_lab.figures.sample_grids import sample_grid
from udl_lab.figures.units_over_epochs import units_over_epochs
from udl_lab.latent.log_likelihood import estimate, ladder
from udl_lab.latent.normal import Normal
from udl_lab.latent.posterior_gap import gaps
from udl_lab.latent.quadrature import log_evidence, log_likelihood_of, posterior_grid
from udl_lab.probes.latent_bounds import look
from udl_lab.probes.statistics import mean
from udl_lab.randomness import generator
from udl_lab.runs.reopen import load_run

matplotlib.rcParams["figure.dpi"] = 66  # small enough to be kept beside its script
run = load_run(os.environ.get("UDL_RUN", "runs/notebook04"))
cfg, net = run.config, run.net.requires_grad_(False)
name = f"{cfg.study}/{cfg.arm}/seed{cfg.seed}"
test = run.data.test  # binary pixels, drawn once, the same ones for every run
print(f"{name}: {net.n_noise} latents, trained by {cfg.model.estimator} with k = {cfg.model.k}")
print(f"{len(test.y):,} test images, {test.x.mean():.1%} of whose pixels are 1")

# %% [markdown]
# ## What the model draws
#
# A latent from the prior N(0, I), decoded to the probability of a 1 for each pixel, and pixels drawn from these. The model
# draws every pixel by itself, so its images are noisy where its means are grey.

# %%
z = net.sample_prior(16, generator(0, "notebook"))
means = net.head.mean(net.decode(z)).unflatten(1, net.in_shape)
pixels = net.head.sample(net.decode(z), generator(0, "pixels")).unflatten(1, net.in_shape)
both = torch.cat([means[:8], pixels[:8], means[8:], pixels[8:]])
display(sample_grid(both, f"{name}: means E[x|z] of the prior, and draws below", low=0.0))

# %% [markdown]
# All that it can draw, in one picture: each cell stands for as many samples of the prior as any other.

# %%
decoded = net.head.mean(net.decode(manifold_latents(8))).unflatten(1, net.in_shape)
display(latent_manifold(decoded, f"{name}: E[x|z]"))

# %% [markdown]
# ## Where the encoder puts the images
#
# The decoder learned on latents of q(z), the mixture of all q(z|x), and is asked for latents of the prior. If q(z) were the
# prior, the full lines would lie on the dashed ones. A latent whose KL is 0 tells nothing of the image: it was given up. At
# `seed=0` this happens to one of the two.

# %%
some = run.subject().sample(500)
display(aggregate_posterior(net.posterior(some.x), some.y, f"{name}: 500 test images"))
seen = look(net, some.x, generator(0, "notebook", "look"))
kl = ", ".join(f"{value:.2f}" for value in seen.kl_per_unit)
print(f"KL of each latent: {kl} nats, in sum the rate {seen.kl.mean():.2f}")
figure = units_over_epochs(run.metrics, name)
if figure is not None:  # logged by callbacks=track_latent
    display(figure)

# %% [markdown]
# ## The true posterior against q
#
# For twelve test images: the exact log p(x) on a grid of 601 × 601 latents, the ELBO of the encoder's q(z|x), and that of
# the best diagonal normal for this image alone, which a search found. No random number is in these three.

# %%
twelve = run.subject().sample(12)
x = twelve.x
log_likelihood = log_likelihood_of(net, x)
exact = log_evidence(log_likelihood, 2, 601, reach=6.0)
posterior = posterior_grid(log_likelihood, 2, 301, reach=6.0)
q, moments = net.posterior(x), posterior.moments()
start = Normal(moments.mean.to(x), moments.log_std.to(x))
found = gaps(lambda z: net.log_joint(x, z), exact.log_prob, q, [start], n=14)
error = max(float(exact.error.max()), float(found.error.max()))
print(f"the numbers below are right to {error:.4f} nats; {found.unconverged.max():.4f} left to win")

# %%
kl = exact.log_prob - found.elbo
display(
    posterior_on_grid(
        replace(posterior, density=posterior.density[:, :4]),
        Normal(q.mean[:4], q.log_std[:4]),
        name,
        best=Normal(found.best.mean[:4], found.best.log_std[:4]),
        images=x[:4, 0],
        names=[f"KL(q ‖ p(z|x)) = {nats:.2f} nats" for nats in kl[:4].tolist()],
    )
)

# %% [markdown]
# ## The bounds beside the truth
#
# The importance-weighted bound L_K = E log 1/K Σ w takes K samples of q; L_1 is the ELBO. With K it rises to log p(x), and
# never over it but for the noise of its draws. All bounds here come from the same 5,000 weights, so they rise for every
# image. A Pareto k over .7 says that a few weights carry the sum, and that even 5,000 are not to be trusted. With the command
# above look at image 4: q lies beside the posterior, and no reweighting of its samples finds what lies elsewhere.

# %%
ks = [1, 5, 50, 500, 5000]
eps = torch.randn(5000, len(x), 2, generator=generator(0, "notebook", "weights"))
log_weights = torch.cat([net.terms(x, part).log_weights for part in eps.split(500)]).double()
bounds = ladder(log_weights, ks)
images = range(1, len(x) + 1)
rows = pd.DataFrame(bounds.T.numpy(), images, [f"L_{k}" for k in ks])
rows.insert(0, "digit", twelve.y.numpy())
rows["exact log p"] = exact.log_prob.numpy()
rows["Pareto k"] = estimate(log_weights).pareto_k.numpy()
display(rows.round(2))
rising = bool((bounds.diff(dim=0) >= -1e-9).all())
print(f"the bounds rise for every image: {rising}")
print(
    f"by quadrature the ELBO is {found.elbo.mean():.2f}, by samples L_1 is {bounds[0].mean():.2f}"
)

# %%
level = float(exact.log_prob.mean())
left = [mean((exact.log_prob - bound).numpy()) for bound in bounds]
table = pd.DataFrame(
    {
        "metric": "bound",
        "site": "",
        "element": [f"k{k}" for k in ks],
        "estimate": [level - each.estimate for each in left],
        "low": [level - each.high for each in left],
        "high": [level - each.low for each in left],
    }
)
what = "95 % intervals of the distance from log p(x)"
display(bound_by_k(table, f"{name}: {len(x)} test images", level, what))

# %% [markdown]
# ## Whose fault it is
#
# What the ELBO lacks is KL(q ‖ p(z|x)). The approximation gap is what no diagonal normal can win: the fault of the family.
# The amortisation gap is the rest: one encoder answers for all images, and another normal would have been better for
# this one.

# %%
figure = Figure(figsize=(8, 3.6), layout="constrained")
axes = figure.subplots()
axes.bar(images, found.approximation, label="approximation: the family's")
axes.bar(
    images, found.amortisation, bottom=found.approximation, label="amortisation: the encoder's"
)
axes.set(title=name, xlabel="test image", ylabel="log p(x) − ELBO (nats)", xticks=list(images))
axes.legend()
display(figure)
share = float(found.amortisation.sum() / kl.sum())
print(f"on average {kl.mean():.2f} nats are lacking, {share:.0%} of them the encoder's fault")
measured = run.results.loc["posterior/gap"]
theirs = run.results.loc["posterior/share_amortised", "estimate"]
print(
    f"in the run's table: {measured['estimate']:.2f} nats over {measured['n']} images, {theirs:.0%}"
)

# %% [markdown]
# ## Exercise: a bound that is none
#
# With w̃ = w / Σ w, the sum Σ w̃ log w has the same gradient as L_K when the weights w̃ are held fixed, so a library trains with
# it rightly, and logs it as the bound. Its value is another: it is larger than log 1/K Σ w by KL(w̃ ‖ uniform), which is 0 for
# equal weights only: a worse q makes it look better. Compute both from 50 weights, averaged over a hundred such draws for each
# image. Which are above log p(x)?

# %%
groups = log_weights.unflatten(0, (100, 50))
normalised = groups.softmax(1)
right, wrong = groups.logsumexp(1) - math.log(50), (normalised * groups).sum(1)
excess = (normalised * (50 * normalised).log()).nan_to_num(0.0).sum(1)
print(
    "Σ w̃ log w − log 1/K Σ w = KL(w̃ ‖ uniform):", torch.allclose(wrong - right, excess, atol=1e-6)
)
values = {"log 1/K Σ w": right.mean(0), "Σ w̃ log w": wrong.mean(0)}
display(pd.DataFrame({**values, "exact log p": exact.log_prob}, images).round(2))
for what, value in values.items():
    over = value - exact.log_prob
    count = int((over > 0).sum())
    print(
        f"{what}: by {over.median():+.2f} nats (median) over log p(x); too high for {count} of {len(x)}"
    )
print(f"the second is over the first by log K = {math.log(50):.2f} nats at most")
