"""Whether two sets of features are alike up to one orthogonal map, a shift and a scale: linear CKA.

Row i of both belongs to the same example. CKA between a layer's activations for images and for
their transformed copies is 1 if some orthogonal map does to the activations what the transformation
does to the images. That is weaker than equivariance under a known action, and it says nothing about
invariance.

Both forms are cosines of centred Gram matrices, of examples × examples: no matrix of features ×
features is made. Everything is computed in float64.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

FEWEST = 4  # examples: the unbiased estimate divides by n (n - 3)

Centre = Callable[[Tensor], Tensor]


def debiased_cka(
    a: Float[Tensor, "example first"], b: Float[Tensor, "as_many second"]
) -> Float64[Tensor, ""]:
    """Linear CKA (Kornblith et al. 2019, eq. 4) from the unbiased HSIC of Song et al. 2012, eq. 5.

    Around 0 for independent features of any number, and below 0 as often as above; at most 1. It
    is nan, not 0, if either set is constant over the examples, or varies for so few of them that
    the unbiased HSIC of the set with itself is 0 (as when one example alone differs): there is
    nothing to compare then, and 0 would say that there was.

    Raises:
        ValueError: for fewer than 4 examples, different numbers of them, or a value that is not
            finite.
    """
    _check(a, b, FEWEST)
    return _cosine(a, b, _u_centred)


def biased_cka(
    a: Float[Tensor, "example first"], b: Float[Tensor, "as_many second"]
) -> Float64[Tensor, ""]:
    """Linear CKA as it is mostly computed (Kornblith et al. 2019, eqs 3 and 4), for contrast.

    In [0, 1], and near 1 for independent features that outnumber the examples: for n examples of p
    independent Gaussian features in each set, about 1 / (1 + n / p). nan if a set is constant.

    Raises:
        ValueError: for fewer than 2 examples, different numbers of them, or a value that is not
            finite.
    """
    _check(a, b, 2)
    return _cosine(a, b, _centred)


def _cosine(a: Tensor, b: Tensor, centre: Centre) -> Tensor:
    first, second = (centre(_gram(features)) for features in (a, b))
    return (first * second).sum() / (first.norm() * second.norm())  # 0 / 0 is nan


def _gram(features: Float[Tensor, "example feature"]) -> Float64[Tensor, "example example"]:
    """Scalar products of the centred features.

    Neither HSIC depends on a shift of the features, but rounding does. Less the first example,
    constant features are exactly 0.
    """
    features = features.double()
    features = features - features[0]
    features = features - features.mean(0)
    return features @ features.T


def _centred(gram: Float64[Tensor, "n n"]) -> Float64[Tensor, "n n"]:
    """H K H with H = I - 11ᵀ/n; the biased HSIC is the scalar product of two such over (n - 1)²."""
    return _unless_rounding(gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean(), gram)


def _u_centred(gram: Float64[Tensor, "n n"]) -> Float64[Tensor, "n n"]:
    """The U-centred matrix (Székely & Rizzo 2014, definition 2, which has it for distances).

    The scalar product of two such matrices over n (n - 3) is the unbiased HSIC, so that of a
    matrix with itself is never negative, as rounding could make it in the form of Song's eq. 5.
    """
    n = len(gram)
    gram = gram - torch.diag(gram.diagonal())
    rows = gram.sum(1) / (n - 2)
    centred = gram - rows - rows[:, None] + gram.sum() / ((n - 1) * (n - 2))
    return _unless_rounding(centred - torch.diag(centred.diagonal()), gram)


def _unless_rounding(
    centred: Float64[Tensor, "n n"], gram: Float64[Tensor, "n n"]
) -> Float64[Tensor, "n n"]:
    """Zero where nothing but rounding is left of the Gram matrix."""
    rounding = len(gram) * torch.finfo(gram.dtype).eps * gram.norm()
    return centred if centred.norm() > rounding else torch.zeros_like(centred)


def _check(a: Tensor, b: Tensor, fewest: int) -> None:
    if len(a) != len(b):
        raise ValueError(
            f"{len(a)} and {len(b)} examples cannot be compared row by row; give both sets of "
            "features for the same examples"
        )
    if len(a) < fewest:
        raise ValueError(f"{len(a)} examples are too few for this CKA; give at least {fewest}")
    for name, features in (("first", a), ("second", b)):
        if not features.isfinite().all():
            raise ValueError(
                f"the {name} features hold a value that is not finite; mend or drop those examples"
            )
