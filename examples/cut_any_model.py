"""Cut the matrices of a model that is not ours.

    python examples/cut_any_model.py

The model is any pytree of arrays; `where` says at which paths its matrices lie and what their
axes are. Here: two Flax layers with attention heads.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from truncated_weights import truncation


class Layer(nnx.Module):
    """Attention with two heads, then a feed-forward."""

    def __init__(self, rngs: nnx.Rngs):
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.wi, self.wo = nnx.Linear(8, 32, rngs=rngs), nnx.Linear(32, 8, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, length, 8] to the same."""
        x = x + self.attention(x)
        return x + self.wo(jax.nn.relu(self.wi(x)))


class Model(nnx.Module):
    """Two layers."""

    def __init__(self, rngs: nnx.Rngs):
        self.layers = nnx.List([Layer(rngs) for _ in range(2)])

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, length, 8] to the same."""
        for layer in self.layers:
            x = layer(x)
        return x


model = Model(nnx.Rngs(0))
where = {
    "fc_in": "layers/{layer}/wi/kernel",
    "q_proj": ("layers/{layer}/attention/query/kernel", "in out out"),
}
cut = truncation.cut(model, "-1.fc_in@0.25+*.q_proj@magnitude:0.5", where)

ranks = [int(jnp.linalg.matrix_rank(layer.wi.kernel[...])) for layer in cut.layers]
x = jax.random.normal(jax.random.key(1), (1, 4, 8))
print(f"ranks of wi after the cut: {ranks}")
print(f"largest change of the output: {float(jnp.abs(cut(x) - model(x)).max()):.3f}")
