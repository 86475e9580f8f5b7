"""The pool of pairs, and basicsr's."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from upscale_training.degradation import PairPool


def pairs(start, count):
    """Pairs that carry their number."""
    numbers = torch.arange(start, start + count, dtype=torch.float32)
    return numbers.view(-1, 1, 1, 1).expand(-1, 3, 2, 2), -numbers.view(-1, 1, 1, 1)


def run(pool, batches, start=0):
    """Numbers that came back, batch by batch (None while nothing does)."""
    found, number = [], start
    for count in batches:
        given = pairs(number, count)
        taken = pool.exchange(given[0].clone(), given[1].clone())
        number += count
        if taken is None:
            found.append(None)
        else:
            low, high = taken
            assert torch.equal(low[:, 0, 0, 0], -high[:, 0, 0, 0])
            found.append(low[:, 0, 0, 0].int().tolist())
    return found


@pytest.mark.parametrize("size, batch", [(180, 12), (50, 7), (5, 8)])
def test_each_pair_comes_back_at_most_once_and_none_is_lost(size, batch):
    pool = PairPool(size, seed=1)
    found = run(pool, [batch] * 60)
    filling = -(-size // batch)
    assert found[:filling] == [None] * filling
    taken = [number for some in found[filling:] for number in some]
    assert max(Counter(taken).values()) == 1
    assert len(pool) == filling * batch
    rest = pool.state_dict()["low"][:, 0, 0, 0].int().tolist()
    assert sorted(taken + rest) == list(range(60 * batch))


def test_batches_are_mixed():
    found = run(PairPool(60, seed=1), [6] * 40)
    origins = [{number // 6 for number in some} for some in found if some]
    assert sum(len(each) for each in origins) / len(origins) > 4


def test_a_last_smaller_batch_is_fine():
    found = run(PairPool(20, seed=1), [8] * 6 + [3])
    assert len(found[-1]) == 3


def test_a_batch_larger_than_the_pool_is_refused():
    pool = PairPool(4, seed=1)
    with pytest.raises(ValueError, match="larger than the pool of 5"):
        run(pool, [5, 6])


def test_no_pool():
    assert run(PairPool(0, seed=1), [3, 3]) == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("mode", ["corrected", "official"])
@pytest.mark.parametrize("after", [0, 2, 5, 9])
def test_a_restored_pool_goes_on_as_the_first_would(mode, after):
    whole = run(PairPool(20, seed=3, mode=mode), [5] * 15)
    first, second = PairPool(20, seed=3, mode=mode), PairPool(20, seed=99, mode=mode)
    start = run(first, [5] * after)
    state = first.state_dict()
    run(first, [5] * 4, start=1000)  # what follows must not change the state
    second.load_state_dict(state)
    assert start + run(second, [5] * (15 - after), start=5 * after) == whole


@pytest.mark.parametrize("after", [2, 5])
def test_a_restored_pool_moves_to_the_device_of_what_it_is_given(after):
    pool = PairPool(20, seed=3)
    run(pool, [5] * after)
    pool.load_state_dict(pool.state_dict())
    for _ in range(3):
        taken = pool.exchange(*(each.to("meta") for each in pairs(0, 5)))
    held = pool.state_dict()
    assert all(held[part].device.type == "meta" for part in ("low", "high"))
    assert after == 2 or taken[0].device.type == "meta"


def test_official_mode_is_basicsrs(basicsr, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    theirs = SimpleNamespace(queue_size=20)
    ours = PairPool(20, seed=7, mode="official")
    torch.manual_seed(7)
    for step in range(12):
        theirs.lq, theirs.gt = (each.contiguous() for each in pairs(4 * step, 4))
        taken = ours.exchange(theirs.lq.clone(), theirs.gt.clone())
        basicsr.model.RealESRGANModel._dequeue_and_enqueue(theirs)
        assert torch.equal(taken[0], theirs.lq) and torch.equal(taken[1], theirs.gt)
