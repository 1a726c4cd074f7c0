"""What cannot fit is refused before anything is allocated; what can is let through."""

import pytest

from truncated_weights.experiments.run import ram as memory
from truncated_weights.experiments.run.program import UserError
from truncated_weights.toy.settings import NoisyRecall


def test_refusals_say_how_much_and_what_to_lower():
    with pytest.raises(UserError, match=r"at least 4\.0 GB of memory and there are 2\.0 GB; lower"):
        memory.require(4 * 2**30, "--batch_size", limit=2 * 2**30)
    memory.require(2**30, "--batch_size", limit=2**30)
    with pytest.raises(UserError, match="at least"):
        memory.require(float("inf"), "--batch_size", limit=2**30)
    assert memory.host() > 2**28


def test_estimates_are_lower_bounds_that_grow_with_every_size():
    base = dict(
        num_tokens=64, length=128, d_model=128, d_hidden=512, layers=2, batch_size=64, num_seeds=1
    )
    small = memory.recall(**base)
    # The hidden units and scores of a batch alone, float32.
    assert small > 4 * 64 * 128 * 2 * (512 + 128)
    assert small < 2**30
    for name in base:
        assert memory.recall(**(base | {name: 8 * base[name]})) > small
    one = memory.recall_evaluation(NoisyRecall(), 10, at_once=5)
    assert memory.recall_evaluation(NoisyRecall(), 10**7, at_once=5) > 16 * 10**7 * 128 > one
