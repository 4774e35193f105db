"""Draws from laws whose density and score are known."""

from udl_lab.data.source import Examples, Source
from udl_lab.diffusion.laws import Law, make_law
from udl_lab.diffusion.schedule import angle_uniform
from udl_lab.randomness import generator
from udl_lab.ranges import Positive


def law_samples(
    root: str, law: Law, n_train: Positive = 100_000, n_test: Positive = 20_000
) -> Source:
    """Vectors drawn from a mixture of normals, each labelled by the nearest mode.

    The same draws for every seed.

    Args:
        root: not used: the numbers are drawn.
        law: see `udl_lab.diffusion.laws`.
        n_train: training examples.
        n_test: test examples.
    """
    mixture = make_law(law, angle_uniform(1))
    parts = []
    for name, n in (("train", n_train), ("test", n_test)):
        x = mixture.sample(n, generator(0, "law", law, name))
        nearest = (x.unsqueeze(1) - mixture.means).square().sum(2).argmin(1)
        parts.append(Examples(x.float(), nearest))
    return Source(*parts)
