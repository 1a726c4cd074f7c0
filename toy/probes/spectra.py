"""Singular values of every learned matrix, and where the noise direction sits among them."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from truncated_weights.toy import transformer
from truncated_weights.toy.layer import unembedding
from truncated_weights.toy.recall import Task
from truncated_weights.toy.transformer import TransformerConfig, Weights
from truncated_weights.training.records import Name, name
from truncated_weights.truncation import spectrum


def spectra(task: Task, config: TransformerConfig, weights: Weights) -> dict[Name, Array]:
    """For every matrix (LAYER.MATRIX, the product ov included):

    singular_values [rank] falling, norm (Frobenius), soft_rank (that over the largest singular
    value), and, where a noise direction is defined, noise_share [rank], the share of that direction
    in each component: (v_i . w)^2 / |w|^2.
    """
    found: dict[Name, Array] = {}
    for (layer, kind), address in transformer.matrices(config).items():
        matrix = f"{layer}.{kind}"
        decomposition = spectrum.decompose(address.read(weights))
        found[name("singular_values", "rank", matrix=matrix)] = decomposition.s
        found[name("norm", matrix=matrix)] = jnp.linalg.norm(decomposition.s)
        found[name("soft_rank", matrix=matrix)] = spectrum.soft_rank(decomposition.s)
        direction = noise_direction(task, config, weights, layer, kind)
        if direction is not None:
            share = spectrum.direction_share(decomposition, direction)
            found[name("noise_share", "rank", matrix=matrix)] = share
    return found


def noise_direction(
    task: Task, config: TransformerConfig, weights: Weights, layer: int, name: str
) -> Float[Array, " d_out"] | None:
    """The output direction of a matrix that raises the noise logit; None for queries and keys.

    What writes to the residual stream (fc_out, out_proj, ov, a linear fc_in) has w = W_U(tau),
    the mean over noise tokens; fc_in and v_proj have the same pulled back through fc_out and
    out_proj (the ReLU between taken as open).
    """
    direction = jnp.mean(unembedding(config, weights)[:, jnp.asarray(task.noise)], axis=1)
    block = weights["layers"][layer]
    if name in ("q_proj", "k_proj"):
        return None
    if name == "v_proj":
        return block["out_proj"] @ direction
    if name == "fc_in" and "fc_out" in block:
        return block["fc_out"] @ direction
    return direction
