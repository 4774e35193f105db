"""Random streams: named, independent of one another, and without side effects."""

import itertools

import pytest
import torch

from udl_lab.randomness import derive, generator, seeded


def draw(*stream):
    return torch.randn(8, generator=generator(*stream))


def test_the_same_stream_gives_the_same_numbers_whatever_was_drawn_before():
    first = draw(3, "augment", 5)
    torch.randn(100)
    draw(3, "order", 5)
    assert torch.equal(draw(3, "augment", 5), first)


@pytest.mark.parametrize(
    "other", [(4, "augment", 5), (3, "order", 5), (3, "augment", 6), (3, "augment"), (3,)]
)
def test_another_seed_name_or_epoch_gives_other_numbers(other):
    # Two equal float32 normals have probability near 2^-20; eight times in a row, none.
    assert not (draw(*other) == draw(3, "augment", 5)).any()


def test_streams_of_near_names_do_not_collide():
    pieces = ["a", "a1", "1", "", "a, 1", "'a'", 1, 12, 2, -1]
    streams = {s for k in range(4) for s in itertools.product(pieces, repeat=k)}
    seeds = {derive(seed, *stream) for seed in (0, 1, 12, -1) for stream in streams}
    # Chance collisions of n = 4444 hashes of 63 bits: about n^2 / 2^64, one in a trillion.
    assert len(seeds) == 4 * len(streams)


def test_a_number_and_its_name_are_different_streams():
    assert derive(0, "a", 12) != derive(0, "a1", 2)
    assert derive(0, "a", 1) != derive(0, "a", "1")
    assert derive(1, 2) != derive(2, 1) != derive(12)


def test_seeds_are_of_63_bits_and_use_all_of_them():
    seeds = [derive(i, "bits") for i in range(2000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    for bit in range(63):
        ones = sum(seed >> bit & 1 for seed in seeds)
        # Binomial(2000, 1/2) has standard deviation 22.4: six of them over 63 bits never happen.
        assert abs(ones - 1000) < 6 * 22.4


@pytest.mark.parametrize(
    ("stream", "seed"),
    [
        # Made by this function when it was written. They must never change: with them every
        # recorded run would draw other numbers, and no old checkpoint could be resumed or retraced.
        ((0,), 2631537505891389924),
        ((0, "init"), 5621797835976536519),
        ((7, "augment", 3, 41), 2691328513386497750),
    ],
)
def test_derived_seeds_never_change(stream, seed):
    assert derive(*stream) == seed


def test_seeded_seeds_the_global_generator_by_name():
    with seeded(3, "init"):
        inside = torch.randn(8)
    assert torch.equal(inside, draw(3, "init"))


def test_seeded_restores_the_global_generator():
    before = torch.get_rng_state()
    with seeded(3, "restored"):  # a name of this test's own: its state is nobody's leftover
        torch.randn(8)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_restores_the_global_generator_after_an_exception():
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded(3, "restored after an exception"):
        torch.randn(8)
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_blocks_can_be_nested():
    with seeded(3, "outer"):
        torch.randn(4)
        with seeded(3, "inner"):
            torch.randn(4)
        rest = torch.randn(4)
    with seeded(3, "outer"):
        assert torch.equal(torch.randn(8)[4:], rest)
