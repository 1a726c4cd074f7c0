"""Singular values of every learned matrix, and where the noise direction sits among them."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from toy import transformer
from toy.layer import unembedding
from toy.recall import Task
from toy.transformer import TransformerConfig, Weights
from truncation import spectrum


def spectra(task: Task, config: TransformerConfig, weights: Weights) -> dict[str, Array]:
    """For every LAYER.MATRIX, the product ov included:

    spectrum/NAME/singular_values [r] falling, spectrum/NAME/norm (Frobenius),
    spectrum/NAME/soft_rank (that over the largest singular value), and, where a noise
    direction is defined, spectrum/NAME/noise_share [r], the share of that direction in each
    component: (v_i . w)^2 / |w|^2.
    """
    found: dict[str, Array] = {}
    for (layer, name), address in transformer.matrices(config).items():
        label = f"spectrum/{layer}.{name}"
        decomposition = spectrum.decompose(address.read(weights))
        found[f"{label}/singular_values"] = decomposition.s
        found[f"{label}/norm"] = jnp.linalg.norm(decomposition.s)
        found[f"{label}/soft_rank"] = spectrum.soft_rank(decomposition.s)
        direction = noise_direction(task, config, weights, layer, name)
        if direction is not None:
            found[f"{label}/noise_share"] = spectrum.direction_share(decomposition, direction)
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
