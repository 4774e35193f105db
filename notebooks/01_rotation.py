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
# # What does rotation augmentation teach a linear map?
#
# This notebook opens a finished run of `lab04_rotation/rotated`: one linear layer, 784 → 10, trained on
# digits that are turned by a random angle of the full circle. It only loads, looks and draws. Make the run
# first (it takes a quarter of a minute), from the project's folder:
#
#     python -m udl_lab.train experiment=lab04_rotation/rotated run_dir=runs/notebook01
#
# With `data=mnist` it uses MNIST; without, the digits that come with scikit-learn. Set `UDL_RUN` to look
# at another run.

# %%
# %matplotlib inline
import os

from IPython.display import display

from udl_lab.figures.by_element import rho_by_element
from udl_lab.figures.learning_curves import learning_curves
from udl_lab.figures.weight_images import weight_images
from udl_lab.runs.reopen import load_run

run = load_run(os.environ.get("UDL_RUN", "runs/notebook01"))
cfg = run.config
name = f"{cfg.study}/{cfg.arm}/seed{cfg.seed}"
print(name, "on", cfg.data.source._target_.rpartition(".")[2])
print("commit", run.record["commit"], "· training data", run.record["data"]["train"])

# %% [markdown]
# ## It learnt something
#
# The lines are means over 50 steps (training, on rotated digits) and the validation split after each epoch
# (upright digits).

# %%
display(learning_curves(run.metrics, name))

# %% [markdown]
# ## Its weights are rings
#
# A linear map whose output does not change when the input is turned can only see how much ink lies on each
# ring around the centre. After training each class's weights are close to a function of the radius alone.
# All pictures share one colour scale, so sizes can be compared.

# %%
display(weight_images(run.net.output.weight, [f"class {i}" for i in range(10)], name))

# %% [markdown]
# ## How invariant is it?
#
# ρ is the distance between the outputs for a digit and for its turned copy, divided by the distance between
# the outputs for two different digits: 0 would be exact invariance. Beside it stand
#
# - **another image of the same class** as the divisor, a stricter control,
# - **there and back**: the digit turned and turned back. What is left of ρ here comes from resampling pixels,
#   not from the network; at multiples of 90° it is exactly 0,
# - **the untrained network**, and the **pixels** themselves.
#
# The intervals come from a bootstrap over disjoint pairs of images.

# %%
display(rho_by_element(run.results.reset_index(drop=True), "rotation", "output", name))

# %%
rho = run.results.query("measure == 'rotation' and site == 'output' and element == ''")
rho = rho[["metric", "estimate", "low", "high", "n"]].set_index("metric")
display(rho.round(3))

# %% [markdown]
# ## Is it more than chance?
#
# The paired comparison of the original lab, made right: the turned copy moves the outputs less than another
# image does when the whole interval of ρ lies under 1, and training did it when it lies under the interval of
# the untrained network.

# %%
trained, untrained = rho.loc["rho"], rho.loc["rho_untrained"]
print(f"ρ trained   {trained.estimate:.3f} [{trained.low:.3f}, {trained.high:.3f}]")
print(f"ρ untrained {untrained.estimate:.3f} [{untrained.low:.3f}, {untrained.high:.3f}]")
print("moves less than another image:", bool(trained.high < 1))
print("training did it:              ", bool(trained.high < untrained.low))

# %% [markdown]
# ## And what did it cost?

# %%
accuracy = run.results.loc[["rotation/accuracy@identity", "rotation/accuracy", "test/accuracy"]]
display(accuracy[["estimate", "low", "high", "n"]].round(3))
