"""An attention of your own: from scores to the pattern. Here a linear one, with nothing else new.

Cuts, probes and search work with it as with softmax; from a command line it is
--attention=MODULE:linear. Predictions that assume softmax are then left out.
"""

import jax.numpy as jnp

from truncated_weights import toy


def linear(scores, causal):
    """The mean over the past plus what scores add, without a softmax."""
    weights = jnp.where(causal, 1 + scores, 0)
    return weights / jnp.sum(causal, axis=-1, keepdims=True)


if __name__ == "__main__":
    run = toy.train(attention=linear, num_tokens=8, length=32, d_model=32, batch_size=32,
                    steps=60, interventions=("1.mlp@0",), rhos=("0", "1"))  # fmt: skip
    print(run.models.p_noise.sel(set="clean", step=60).mean("seed").round(3).to_series())
