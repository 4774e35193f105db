"""Is a set of vectors an orbit? What its Gram matrix says, G_ij = w_i · w_j.

If a finite group that acts by orthogonal maps carries the vectors into each other, every column of
G holds the same numbers in another order. `sorted_gram_penalty` asks for that and no more: it is
necessary, not sufficient (the Gram matrix 4 I + A of the Frucht graph passes, and has no symmetry).
`udl_lab.symmetry.automorphisms` asks for the symmetry itself.

**In the plane the criterion is sufficient.** The penalty of w_1 … w_m in R² is 0 exactly when all
are 0, or when they are an orbit of a dihedral group D_n (n turns, n reflections), every place taken
equally often. Proof. The square of the largest norm r is the largest entry of its own column, and
no entry of column i exceeds |w_i| r, so all norms are r. With w_j = r (cos t_j, sin t_j), let
M_k = Σ_j e^{ikt_j}, and take a k ≥ 1 with M_k = ρ e^{iφ} ≠ 0. The sum over j of cos(k (t_i - t_j)),
a polynomial in G_ij / r², is Re(e^{-ikt_i} M_k) = ρ cos(k t_i - φ): the same for all i by
assumption, and ρ² when summed over i. Hence cos(k t_i - φ) = ρ / m =: cos a, and k t_i is φ + a or
φ - a, each equally often (Σ_i sin(k t_i - φ) = 0). For the smallest such k =: n, the places are
among (φ ± a + 2πl) / n. Let A_j and B_j be the Fourier coefficients over l of the numbers at + and
at -. M_j = 0 for 0 < j < n says B_j = -e^{2ija/n} A_j; with B_{n-j} the conjugate of B_j, A_j = 0
unless a = 0, when there is one kind of place and A_j = 0 at once. So all places are taken equally
often: a regular n-gon if a = 0, and else two of them, mirror images of each other.

A regular n-gon has a circulant Gram matrix. Two of them have not, in general, in any order.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def gram(weights: Float[Tensor, "vector coordinate"]) -> Float[Tensor, "vector vector"]:
    """All inner products of the rows."""
    return weights @ weights.T


def sorted_gram_penalty(weights: Float[Tensor, "vector coordinate"]) -> Float[Tensor, ""]:
    """How far the columns of the Gram matrix are from holding the same numbers.

    The sum over pairs i < j of |sort(G_i) - sort(G_j)|², in the unit of the weights to the fourth;
    computed as m Σ_i |sort(G_i) - mean|², which is the same. After Anselmi et al. 2019,
    "Symmetry-adapted representation learning", which smooths the sorting; torch.sort is exact, and
    differentiable wherever no two entries of a column are equal.
    """
    columns = gram(weights).sort(dim=1).values  # G is symmetric: its rows are its columns
    return len(weights) * (columns - columns.mean(0)).square().sum()


def commutator_norm(a: Float[Tensor, "n n"], b: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """|ab - ba|², the sum of squares: 0 when two symmetric matrices share their eigenvectors.

    If every turn of C_n, n ≥ 3, maps the data in the plane to themselves, their covariance is a
    multiple of the identity (Schur's lemma), and this is 0 whatever the other matrix is.
    """
    return (a @ b - b @ a).square().sum()


def first_weights(net: nn.Module) -> Float[Tensor, "unit input"]:
    """The weight matrix of the first linear layer, a row per unit; biases are no part of it.

    Raises:
        ValueError: when the network has no hidden layer of linear units.
    """
    layers = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if len(layers) < 2:
        raise ValueError(
            f"a network with {len(layers)} linear layers has no hidden units to compare; "
            "use net=fcn with net.widths=[12]"
        )
    return layers[0].weight


def sorted_gram_error(g: Float[Tensor, "vector vector"]) -> float:
    """The penalty without a unit: sqrt(Σ_i |sort(G_i) - mean|²) / |G|, in [0, 1]; 0 for G = 0.

    Not larger than the relative distance of G to any matrix whose columns hold the same numbers, a
    circulant in any order among them, for sorting moves no two vectors apart.
    """
    columns = g.double().sort(dim=1).values
    return _relative((columns - columns.mean(0)).norm(), g)


def circulant_error(g: Float[Tensor, "vector vector"]) -> float:
    """Relative Frobenius distance to the nearest circulant matrix, in the order given; in [0, 1].

    The nearest one has on each wrapped diagonal the mean of G's.
    """
    m = len(g)
    i = torch.arange(m)
    wrapped = g.double()[i[:, None], (i[:, None] + i) % m]  # column k is the k-th wrapped diagonal
    return _relative((wrapped - wrapped.mean(0)).norm(), g)


def planar_circulant_error(weights: Float[Tensor, "vector 2"]) -> float:
    """The smallest `circulant_error` over some cyclic orders of vectors in the plane.

    Those orders are by angle, and for each divisor d of m the one that goes round m / d times and
    takes every (m / d)-th vector: m / d coinciding regular d-gons are circulant in that order only.
    An upper bound of the error in the best of all orders; `pairing_error` is a lower one.
    """
    m = len(weights)
    by_angle = torch.atan2(weights[:, 1], weights[:, 0]).argsort()
    t = torch.arange(m)
    orders = [by_angle[(t % d) * (m // d) + t // d] for d in range(1, m + 1) if m % d == 0]
    return min(circulant_error(gram(weights[order])) for order in orders)


def pairing_error(g: Float[Tensor, "vector vector"]) -> float:
    """A relative distance that G has at least from every circulant matrix, whatever the order.

    Each row of a symmetric circulant matrix holds its largest number c_0 once, c_k = c_{m-k} twice,
    and c_{m/2} once if m is even. Here is how far the mean sorted column is from such a list, times
    sqrt(m), divided by |G|. (The nearest circulant matrix is an average of Gram matrices, so it is
    symmetric and its diagonal c_0 is its largest entry.) Vectors that coincide make pairs of their
    own; where each place is taken equally often, give each place once
    (`automorphisms.merge_coinciding`): G is circulant in some order only if the places' matrix is.
    """
    values = g.double().sort(dim=1).values.mean(0)[:-1]  # without the largest
    if len(values) % 2:
        lists = [torch.cat([values[:i], values[i + 1 :]]) for i in range(0, len(values), 2)]
    else:
        lists = [values]
    # Two numbers a and b are (a - b)² / 2 away from being equal.
    distances = [(pairs[1::2] - pairs[::2]).square().sum() / 2 for pairs in lists]
    return _relative((len(g) * torch.stack(distances).min()).sqrt(), g)


def anisotropy(weights: Float[Tensor, "vector 2"]) -> float:
    """(λ₁ - λ₂) / (λ₁ + λ₂) of the weights' covariance: 0 for a tight frame, 1 on a line."""
    low, high = torch.linalg.eigvalsh(weights.double().T @ weights.double()).tolist()
    return (high - low) / (high + low) if high > 0 else 0.0


def _relative(distance: Tensor, g: Tensor) -> float:
    norm = g.double().norm()
    return float(distance / norm) if norm > 0 else 0.0
