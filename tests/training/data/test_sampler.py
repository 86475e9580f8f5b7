from __future__ import annotations

from itertools import islice

import pytest
from upscale_training.data.sampler import DistributedBatchSampler, EpochOrder


@pytest.mark.parametrize("epoch", [0, 1, 1000])
def test_every_epoch_visits_every_image_once(epoch):
    visits = EpochOrder((5, 8), (1, 1), seed=3)
    numbers = range(epoch * 13, (epoch + 1) * 13)
    assert sorted(visits.image(number) for number in numbers) == list(range(13))


def test_orders_differ_by_epoch_and_seed():
    orders = {
        tuple(EpochOrder((9,), (1,), seed).image(number + 9 * epoch) for number in range(9))
        for seed in range(4)
        for epoch in range(4)
    }
    assert len(orders) == 16


def test_sources_are_mixed_within_an_epoch():
    visits = EpochOrder((50, 50), (1, 1), seed=0)
    first = [visits.image(number) < 50 for number in range(50)]
    assert 15 < sum(first) < 35


def test_a_weight_sets_how_often_each_image_occurs_in_an_epoch():
    visits = EpochOrder((6, 4, 10), (1, 3, 0.5), seed=0)
    assert len(visits) == 6 + 12 + 5
    for epoch in range(0, 6, 2):
        seen = [visits.image(number) for number in range(epoch * 23, (epoch + 2) * 23)]
        counts = [seen.count(image) for image in range(20)]
        assert counts == [2] * 6 + [6] * 4 + [1] * 10


def test_a_source_of_tiny_weight_occurs_at_least_once():
    assert len(EpochOrder((3, 10), (0.01, 1), seed=0)) == 11


def test_numbers_in_any_order_give_the_same_images():
    visits, straight = EpochOrder((7,), (1,), 5), EpochOrder((7,), (1,), 5)
    expected = [straight.image(number) for number in range(70)]
    assert [visits.image(number) for number in reversed(range(70))] == expected[::-1]


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("world", [1, 2, 5])
def test_processes_share_the_samples_of_one(world, accumulate):
    alone = islice(DistributedBatchSampler(4 * world, accumulate=accumulate), 9)
    shares = [
        islice(DistributedBatchSampler(4, 0, rank, world, accumulate), 9) for rank in range(world)
    ]
    together = [
        [number for part in parts for number in part] for parts in zip(*shares, strict=True)
    ]
    assert together == list(alone)


def test_batches_start_from_any_iteration():
    whole = list(islice(DistributedBatchSampler(3, 0, 1, 2, accumulate=2), 20))
    assert list(islice(DistributedBatchSampler(3, 7, 1, 2, accumulate=2), 6)) == whole[14:]


def test_an_iteration_of_accumulated_batches_has_the_numbers_of_a_large_batch():
    large = next(iter(DistributedBatchSampler(12, first=5)))
    small = islice(DistributedBatchSampler(4, first=5, accumulate=3), 3)
    assert [number for batch in small for number in batch] == large
