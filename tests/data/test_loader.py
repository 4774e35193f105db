"""The loader: every example once, in an order that depends on seed and epoch alone."""

from udl_lab.data.augment import Rotation  # isort: skip  # repairs torchvision, for lightning

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.types import _Stateful

from udl_lab.data.loader import Place, ResidentLoader, legacy_order, named_order
from udl_lab.data.source import Examples
from udl_lab.randomness import generator

N = 103  # 10 batches of 10 and one of 3
EXAMPLES = Examples(torch.arange(N * 4).reshape(N, 1, 2, 2).float(), torch.arange(N))


def loader(order="named", augmentation=None, seed=5, batch_size=10, examples=EXAMPLES, **place):
    order = named_order(seed) if order == "named" else order
    return ResidentLoader(
        examples, batch_size, order, augmentation, seed, place=lambda: Place(**place)
    )


def labels(batches):
    return torch.cat([batch.y for batch in batches]).tolist()


@pytest.mark.parametrize("batch_size", [1, 10, 102, 103, 104, 1000])
@pytest.mark.parametrize("order", ["named", legacy_order, None])
@pytest.mark.parametrize("epoch", [0, 3])
def test_an_epoch_visits_every_example_exactly_once(order, batch_size, epoch):
    batches = list(loader(order, batch_size=batch_size, epoch=epoch))
    assert sorted(labels(batches)) == list(range(N))


def test_inputs_stay_with_their_labels():
    for batch in loader():
        assert torch.equal(batch.x[:, 0, 0, 0], 4.0 * batch.y)
        assert batch.drawn is None


def test_the_last_batch_is_kept_though_it_is_smaller():
    sizes = [len(batch.y) for batch in loader()]
    assert sizes == [10] * 10 + [3]
    assert len(loader()) == 11


def test_the_length_of_an_epoch_is_the_number_of_batches():
    for batch_size in (1, 10, 102, 103, 104):
        batches = loader(batch_size=batch_size)
        assert len(batches) == len(list(batches))


def test_without_an_order_the_examples_keep_their_own():
    assert labels(loader(order=None)) == list(range(N))


def test_the_same_seed_and_epoch_give_the_same_order():
    assert labels(loader(seed=5, epoch=2)) == labels(loader(seed=5, epoch=2))


def test_another_epoch_or_seed_gives_another_order():
    orders = {
        tuple(labels(loader(seed=seed, epoch=epoch))) for seed in range(4) for epoch in range(4)
    }
    assert len(orders) == 16


def test_the_order_does_not_depend_on_the_batch_size():
    assert labels(loader(batch_size=10, epoch=1)) == labels(loader(batch_size=7, epoch=1))


def test_a_place_in_the_order_is_uniform_over_epochs():
    """The first example of an epoch, over 600 epochs of 6 examples; each has mean 100, sd 9.1."""
    order = named_order(5)
    firsts = torch.stack([order(6, epoch)[0] for epoch in range(600)])
    assert (torch.bincount(firsts, minlength=6) - 100).abs().max() < 5 * 9.1


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("order", ["named", None])
def test_the_shares_of_the_processes_make_up_the_batch(world_size, order):
    """With the augmentation drawn for it, whatever the number of processes."""
    alone = list(loader(order, Rotation(), epoch=1))
    shares = zip(
        *(
            loader(order, Rotation(), epoch=1, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ),
        strict=True,
    )
    for whole, parts in zip(alone, shares, strict=True):
        assert torch.equal(torch.cat([part.x for part in parts]), whole.x)
        assert torch.equal(torch.cat([part.y for part in parts]), whole.y)
        assert torch.equal(torch.cat([part.drawn for part in parts]), whole.drawn)


def test_batches_that_divide_are_shared_equally():
    for rank in range(5):
        sizes = [len(batch.y) for batch in loader(rank=rank, world_size=5)]
        assert sizes[:-1] == [2] * 10


@pytest.mark.parametrize("done", [0, 1, 7, 10, 11])
@pytest.mark.parametrize("order", ["named", legacy_order])
def test_an_epoch_taken_up_again_is_the_rest_of_it_bit_for_bit(done, order):
    whole = list(loader(order, Rotation(), epoch=2))
    rest = list(loader(order, Rotation(), epoch=2, batches_done=done))
    assert len(rest) == 11 - done
    for batch, other in zip(whole[done:], rest, strict=True):
        assert torch.equal(batch.x, other.x)
        assert torch.equal(batch.y, other.y)
        assert torch.equal(batch.drawn, other.drawn)


def test_each_batch_epoch_and_seed_has_an_augmentation_of_its_own():
    drawn = [
        tuple(batch.drawn.tolist())
        for seed in (0, 1)
        for epoch in (0, 1)
        for batch in loader(augmentation=Rotation(step_degrees=None), seed=seed, epoch=epoch)
    ]
    assert len(set(drawn)) == len(drawn) == 44


@pytest.mark.parametrize("order", ["named", None])
def test_a_batch_draws_from_the_stream_of_its_epoch_and_its_number(order):
    """The stream that is written down: what a run recorded can be drawn again by anyone."""
    for i, batch in enumerate(loader(order, Rotation(), seed=5, epoch=2)):
        expected = Rotation().draw(len(batch.y), generator(5, "augment", 2, i))
        assert torch.equal(batch.drawn, expected)


def test_the_augmentation_is_drawn_but_not_applied():
    """It acts later, on the training device."""
    for batch in loader(augmentation=Rotation()):
        assert batch.drawn.shape == batch.y.shape
        assert torch.equal(batch.x[:, 0, 0, 0], 4.0 * batch.y)


def test_the_place_is_asked_when_an_epoch_begins():
    place = Place(epoch=0)
    batches = ResidentLoader(EXAMPLES, 10, named_order(5), place=lambda: place)
    first = labels(batches)
    place = Place(epoch=1)
    assert labels(batches) == labels(loader(epoch=1)) != first


def test_the_legacy_order_is_the_homeworks():
    """`datastream` of the JAX homework: one generator, a permutation an epoch, batches of it."""
    rng = np.random.RandomState(0)
    for epoch in range(3):
        perm = rng.permutation(N)
        for i, batch in enumerate(loader(legacy_order, epoch=epoch)):
            batch_idx = perm[i * 10 : (i + 1) * 10]
            assert batch.y.tolist() == EXAMPLES.y[batch_idx].tolist()


def test_lightning_takes_the_loader_for_one_that_can_be_resumed():
    """Else it warns that a run resumed within an epoch repeats its beginning."""
    batches = loader()
    assert isinstance(batches, _Stateful)
    assert batches.state_dict() == {}
    before = labels(batches)
    batches.load_state_dict({})
    assert labels(batches) == before


@pytest.mark.parametrize("augmentation", [None, Rotation()])
@pytest.mark.parametrize("group", [2, 3, 11, 50])
def test_a_group_of_batches_comes_apart_into_the_batches(group, augmentation):
    single = list(loader(augmentation=augmentation, epoch=2))
    groups = ResidentLoader(
        EXAMPLES, 10, named_order(5), augmentation, 5, lambda: Place(epoch=2), group
    )
    assert len(groups) == -(-11 // group)
    apart = [batch for several in groups for batch in several.split(10)]
    assert len(apart) == len(single)
    for a, b in zip(apart, single, strict=True):
        assert torch.equal(a.x, b.x) and torch.equal(a.y, b.y)
        assert (a.drawn is None) == (augmentation is None)
        assert a.drawn is None or torch.equal(a.drawn, b.drawn)
