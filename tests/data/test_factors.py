"""The factor model has the moments that its description gives."""

import pytest
import torch

from udl_lab.data.factors import factors


def test_the_covariance_is_that_of_four_factors_and_noise():
    train, test = factors("", n_train=50_000, n_test=10)
    eigenvalues = torch.linalg.eigvalsh(train.x.double().T.cov()).flip(0)
    # Nearly orthogonal columns of squared lengths 4, 2, 4/3, 1 on noise of .49.
    assert (eigenvalues[:4] > 0.49 + 0.5).all() and eigenvalues[0] < 0.49 + 4 * 1.6
    assert eigenvalues[:4].sum() - 4 * 0.49 == pytest.approx(4 + 2 + 4 / 3 + 1, rel=0.05)
    # The law of Marchenko and Pastur spreads 16 of them over .49 (1 ± √(16/50,000))², ± .0175.
    noise = torch.full((16,), 0.49).double()
    torch.testing.assert_close(eigenvalues[4:], noise, atol=0.025, rtol=0)
    assert test.x.shape == (10, 20) and train.y.unique().tolist() == [0]


def test_the_draws_are_the_same_again_and_differ_between_splits():
    (first, test), (again, _) = (factors("", n_train=50, n_test=50) for _ in range(2))
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x, test.x)


def test_as_many_factors_as_dimensions_are_refused():
    with pytest.raises(ValueError, match="leave no noise"):
        factors("", d=4, latent=4)


def test_the_factors_of_more_dimensions_are_longer_as_the_noise_is():
    """80 dimensions: squared lengths four times 4, 2, 4/3 and 1, as is the trace of the noise."""
    train, _ = factors("", d=80, n_train=20_000, n_test=1)
    eigenvalues = torch.linalg.eigvalsh(train.x.double().T.cov()).flip(0)
    signal = eigenvalues[:4].sum() - 4 * 0.49
    # The variances of 20,000 draws are known to 1 %, the largest one's being half of the sum.
    assert signal == pytest.approx(4 * (4 + 2 + 4 / 3 + 1), rel=0.05)
    assert eigenvalues[4:].mean() == pytest.approx(0.49, rel=0.01)
