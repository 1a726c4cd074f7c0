"""Counted operations against those that XLA counts of the very functions."""

import jax
import jax.numpy as jnp
import pytest

from truncated_weights import bridge
from truncated_weights.bridge import module
from truncated_weights.bridge import network as model
from truncated_weights.bridge.network import operations

COMMON = {"vocab_size": 700, "num_layers": 3, "d_model": 64, "num_heads": 4, "d_ff": 256}
GROUPED = bridge.Config(
    **COMMON, num_groups=2, gated=True, norm="rms", activation="silu", residual="pre",
    rotary_fraction=1.0, biases=(), family="llama",
)  # fmt: skip
PARALLEL = bridge.Config(**COMMON)
BATCH, LENGTH = 8, 16


def counted(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


@pytest.fixture(scope="module", params=[GROUPED, PARALLEL], ids=["grouped", "parallel"])
def config(request):
    return request.param


@pytest.mark.parametrize("asking", [None, 1])
def test_a_layer_and_the_head(config, asking):
    params = module.shapes(config)
    x = jax.ShapeDtypeStruct((BATCH, LENGTH, 64), jnp.float32)
    mask = jax.ShapeDtypeStruct((BATCH, LENGTH), jnp.bool_)

    def one(layer, x, mask):
        at = None if asking is None else jnp.full((BATCH, 1), LENGTH - 1)
        return model.layer(layer, config, x, model.context_of(mask), at)

    found = counted(one, params["layers"][0], x, mask)
    # Norms, rotations, softmax and masks are not in our count, and not small at this width.
    expected = BATCH * operations.layer(config, LENGTH, asking)
    assert expected < found < 1.25 * expected + 5e5
    ends = counted(lambda p, x: model.final_logits(p, config, x), model.outer_params(params), x)
    expected = BATCH * operations.head(config, LENGTH)
    assert expected < ends < 1.1 * expected


def test_a_candidate_costs_what_stands_above_it(config):
    """Of the last layer's fc_out one product and the head; of the first's all but attention."""
    tokens, last = 20, 2
    head = operations.head(config, 1)
    top = operations.candidate(config, (last, "fc_out"), tokens, 1)
    assert top == operations.matrix(config, "fc_out") + head
    bottom = operations.candidate(config, (0, "q_proj"), tokens, 1)
    assert bottom == operations.forward(config, tokens, 1)
    inner = operations.candidate(config, (1, "fc_in"), tokens, 1)
    assert operations.candidate(config, (last, "fc_in"), tokens, 1) < inner < bottom
