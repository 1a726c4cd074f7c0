"""A metric of your own: components measured by moments that you choose. Here about the mean input.

A global association is a mean output; measured about the mean input it is no longer the first
component. `moments` takes any rows, of any matrix of any pytree.
"""

import jax
import jax.numpy as jnp

from truncated_weights import truncation

weights = jax.random.normal(jax.random.key(0), (8, 6))
inputs = 3 + jax.random.normal(jax.random.key(1), (500, 8))  # a strong mean
seen = truncation.moments(inputs)

for name, moments in (("about zero", seen), ("about the mean", seen.centred())):
    cut = truncation.cut([{"w": weights}], "0.fc_in@whitened:-0.17", {"fc_in": "{layer}/w"},
                         moments={(0, "fc_in"): moments})  # fmt: skip
    left = jnp.linalg.norm((inputs @ cut[0]["w"]).mean(0)) / jnp.linalg.norm(
        (inputs @ weights).mean(0)
    )
    print(f"first component dropped, {name}: {left:.2f} of the mean output is left")
