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
# # Which layer carries a symmetry, and of which kind?
#
# This notebook opens a finished run of `rotated_mnist/c4`: a group convolution network whose filters come in
# four orientations, trained on upright digits. It only loads, looks and draws. Make the run first (under a
# minute), from the project's folder:
#
#     python -m udl_lab.train experiment=rotated_mnist/c4 data.n_train=null trainer.max_epochs=30 run_dir=runs/notebook02
#
# This uses the digits that come with scikit-learn, all of them; with `data=mnist` it uses MNIST. Set `UDL_RUN` to look at
# another run, for example of `rotated_mnist/plain`.

# %%
# %matplotlib inline
import os

from IPython.display import display

from udl_lab.figures.by_depth import bracket_by_depth, channel_heat_map, index_by_depth
from udl_lab.probes.audit import audit
from udl_lab.runs.reopen import load_run
from udl_lab.symmetry.actions import Rotations

run = load_run(os.environ.get("UDL_RUN", "runs/notebook02"))
cfg = run.config
name = f"{cfg.study}/{cfg.arm}/seed{cfg.seed}"
table = run.results.reset_index(drop=True)
c4 = table[table["measure"] == "c4"]
print(name, "on", cfg.data.source._target_.rpartition(".")[2])

# %% [markdown]
# ## What the architecture allows
#
# Read off the layers, before any measurement. *exact* means: turning the input turns the layer's map, and
# nothing else. A group convolution also exchanges its channels, so the audit, which knows only the map,
# leaves it open.

# %%
for finding in audit(run.net, tuple(cfg.example.shape), Rotations([90, 180, 270])):
    print(finding)

# %% [markdown]
# ## How invariant is each layer?
#
# The index is the share of a layer's variance that lies *between* orbits, where an orbit is a digit and its
# three turned copies. 1 is exact invariance. The band is a 95 % interval over images. The untrained network
# is the control: what is invariant there was built in, not learnt.

# %%
display(index_by_depth(c4, name))

# %%
display(channel_heat_map(c4, name))

# %% [markdown]
# ## Equivariant under which action?
#
# The *known action* turns the map. *Sorted* lets every image shuffle the layer as it likes; its error is a
# lower bound for all permutations, and a small one proves nothing. In between lies the *best shared
# permutation* of the channels, found on half of the images and scored on the other half.

# %%
display(bracket_by_depth(c4, name))

# %% [markdown]
# ## The certificate
#
# A layer is granted one if the recovered permutations are exact on images that they were not fitted on, and
# obey the group's law: two quarter turns are a half turn. The orbits of the channels name the representation.

# %%
granted = c4[c4["metric"] == "certificate"].set_index("site")
error = c4[c4["metric"] == "certificate_error"].set_index("site")["estimate"]
for site, row in granted.iterrows():
    print(f"{site:24} {'granted' if row.estimate else 'refused'}  {row.note}")
print("largest held-out error of those granted:", f"{error[granted['estimate'] == 1].max():.0e}")

# %% [markdown]
# ## And what is it good for?
#
# Accuracy on upright digits, and on the same digits turned.

# %%
accuracy = table[(table["measure"] == "rotation") & (table["metric"] == "accuracy")]
display(accuracy.set_index("element")[["estimate", "low", "high", "n"]].round(3))
