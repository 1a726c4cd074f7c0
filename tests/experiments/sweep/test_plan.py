"""Axes to runs to groups, before anything is trained."""

import jax
import numpy as np
import pytest

from truncated_weights.experiments.sweep import plan
from truncated_weights.experiments.sweep.settings import AXES, SETTINGS
from truncated_weights.toy.settings import NoisyRecall

TINY = {
    "num_tokens": (5,), "length": (8,), "d_model": (6,), "batch_size": (4,), "steps": (4,),
    "feed_forward": ("linear",), "interventions": ("0.fc_in@0",),
}  # fmt: skip


def config(**settings):
    return SETTINGS(**{**TINY, "alpha": (0.5,), "num_seeds": 1, **settings})


def test_axes_are_a_product_and_seeds_come_fastest():
    found = plan.expand(config(alpha=(0.1, 0.3), num_tokens=(5, 7, 9), num_seeds=2, seed=4))
    told = [(r.values["alpha"], r.values["num_tokens"], r.seed) for r in found]
    wanted = {(a, n, s) for a in (0.1, 0.3) for n in (5, 7, 9) for s in (4, 5)}
    assert set(told) == wanted
    assert len(told) == 12
    assert told[0][:2] == told[1][:2]
    assert [r.index for r in found] == list(range(12))
    assert all(r.config.num_seeds == 1 for r in found)


def test_zipped_axes_go_together():
    found = plan.expand(
        config(d_model=(4, 6, 8), learning_rate=(0.3, 0.2, 0.2), alpha=(0.1, 0.9),
               zip=("d_model+learning_rate",))
    )  # fmt: skip
    told = {(r.values["d_model"], r.values["learning_rate"], r.values["alpha"]) for r in found}
    assert told == {(d, r, a) for d, r in ((4, 0.3), (6, 0.2), (8, 0.2)) for a in (0.1, 0.9)}


def test_every_setting_of_a_run_is_an_axis_or_is_shared():
    """Whatever a run has, a sweep of one value says the same."""
    only = plan.expand(SETTINGS(alpha=(0.3,), num_seeds=1))[0].config
    assert isinstance(only, NoisyRecall)
    assert {"alpha", "learning_rate", "num_tokens", "d_model", "batch_size", "optimizer"} <= {*AXES}
    assert not {"seed", "interventions", "layer_norm"} & {*AXES}


def test_traced_numbers_share_a_group_and_shapes_do_not():
    runs = plan.expand(
        config(alpha=(0.1, 0.5), learning_rate=(0.1, 0.2), concentration=(1.0, 8.0),
               num_tokens=(5, 7), num_seeds=2)
    )  # fmt: skip
    groups = plan.group(runs, jax.devices()[:1])
    assert [len(g.runs) for g in groups] == [16, 16]
    for group in groups:
        values = group.trainer.values
        assert values["alpha"].tolist() == [np.float32(r.config.alpha) for r in group.runs]
        assert values["transition"].shape[0] == 16
        assert len({r.config.num_tokens for r in group.runs}) == 1
    assert sorted(r.index for g in groups for r in g.runs) == list(range(32))


def test_a_law_that_decides_outputs_is_no_traced_number():
    runs = plan.expand(config(concentration=(1.0, 8.0), outputs=("bigram",)))
    assert [len(g.runs) for g in plan.group(runs, jax.devices()[:1])] == [1, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": (0.1, 0.1)}, "alpha has a value twice"),
        ({"alpha": (1.5,)}, "alpha is 1.5; for 1.5: it must lie in"),
        ({"alpha": ()}, "alpha is ; it must be given"),
        ({"zip": ("alpha+nothing",)}, "zip names 'nothing'"),
        ({"zip": ("alpha+d_model", "d_model+steps")}, "zip has d_model twice"),
        ({"zip": ("alpha+d_model",), "alpha": (0.1, 0.2)}, "as many values of each"),
    ],
)
def test_what_cannot_be_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        config(**settings)


def test_a_batch_that_does_not_divide_is_named():
    with pytest.raises(ValueError, match="3 runs on 8 devices put each run on 8"):
        plan.group(plan.expand(config(num_seeds=3)), jax.devices())
