"""The linear associative memory with noise: one matrix, cross-entropy, full population.

    logits(x) = E[x] W U,  x uniform on N inputs, [N + 1] classes, class N the noise
    p*(k | x) = (1 - alpha) 1{k = x} + alpha 1{k = N},  W = 0 at the start

Orthonormal embeddings are E = I_N, U = I_{N+1}, so that W is the matrix of logits. Random ones
have Gaussian entries of variance 1/d. Gradient descent of step eta follows the gradient flow at
time t = eta * steps with an error of order eta. Chen, Bruna and Bietti (2025), section on the
linear associative memory; the exact solution is in theory/memory_flow.py.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from truncation import intervention, spectrum

Weights = dict[str, Any]

# The memory is a feed-forward of one linear map, so the notation calls it 0.fc_in.
MATRICES: dict[intervention.Key, intervention.Address] = {
    (0, "fc_in"): intervention.at_path("fc_in")
}


@dataclasses.dataclass(frozen=True)
class Memory:
    """A training problem (see training/loop.py).

    d_model 0 means orthonormal embeddings. batch_size 0 means the exact population loss;
    otherwise each step draws that many inputs and noisy targets.
    """

    num_inputs: int
    alpha: float
    d_model: int = 0
    batch_size: int = 0
    embeddings: Literal["orthonormal", "random"] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        if self.num_inputs < 2:
            raise ValueError(f"num_inputs is {self.num_inputs}, a memory needs at least 2")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha is {self.alpha}, it must lie in (0, 1)")
        if self.d_model < 0 or self.batch_size < 0:
            raise ValueError("d_model and batch_size must not be negative")
        object.__setattr__(self, "embeddings", "random" if self.d_model else "orthonormal")

    def init(self, key: PRNGKeyArray) -> tuple[Weights, Weights]:
        """W = 0 and the embeddings."""
        inputs, classes = self.num_inputs, self.num_inputs + 1
        if self.embeddings == "orthonormal":
            frozen = {"embed": jnp.eye(inputs), "unembed": jnp.eye(classes)}
        else:
            embed_key, unembed_key = jax.random.split(key)
            scale = 1 / math.sqrt(self.d_model)
            frozen = {
                "embed": scale * jax.random.normal(embed_key, (inputs, self.d_model)),
                "unembed": scale * jax.random.normal(unembed_key, (self.d_model, classes)),
            }
        d_in, d_out = frozen["embed"].shape[1], frozen["unembed"].shape[0]
        return {"fc_in": jnp.zeros((d_in, d_out))}, frozen

    def loss(
        self, params: Weights, frozen: Weights, key: PRNGKeyArray, shard: Any
    ) -> Float[Array, ""]:
        """Mean cross-entropy in nats."""
        log_p = jax.nn.log_softmax(logits({**frozen, **params}), axis=-1)
        if not self.batch_size:
            return -jnp.sum(self.target() * log_p) / self.num_inputs
        input_key, noise_key = jax.random.split(key)
        x = shard(jax.random.randint(input_key, (self.batch_size,), 0, self.num_inputs))
        noisy = jax.random.bernoulli(noise_key, self.alpha, (self.batch_size,))
        return -jnp.mean(log_p[x, jnp.where(noisy, self.num_inputs, x)])

    def target(self) -> Float[Array, "inputs classes"]:
        """p*(k | x)."""
        correct = (1 - self.alpha) * jnp.eye(self.num_inputs, self.num_inputs + 1)
        return correct.at[:, -1].set(self.alpha)


def logits(weights: Weights) -> Float[Array, "inputs classes"]:
    """Logits of every class for every input."""
    exact = jax.lax.Precision.HIGHEST
    mapped = jnp.matmul(weights["embed"], weights["fc_in"], precision=exact)
    return jnp.matmul(mapped, weights["unembed"], precision=exact)


def measure_outputs(weights: Weights) -> Mapping[str, Array]:
    """Mean over inputs of p(correct), p(noise) and the accuracy."""
    z = logits(weights)
    p = jax.nn.softmax(z, axis=-1)
    inputs = z.shape[0]
    return {
        "p_correct": jnp.trace(p[:, :inputs]) / inputs,
        "p_noise": jnp.mean(p[:, -1]),
        "accuracy": jnp.mean(jnp.argmax(z, axis=-1) == jnp.arange(inputs)),
    }


def measure_logits(weights: Weights) -> Mapping[str, Array]:
    """The three logits of the theory, averaged over inputs, and the spectrum of the logits.

    correct, other, noise: mean entries of each kind. singular_values [r], falling, of the
    logit matrix, and noise_share [r] of the noise class in each component.
    """
    z = logits(weights)
    inputs = z.shape[0]
    square = z[:, :inputs]
    correct = jnp.trace(square) / inputs
    decomposition = spectrum.decompose(z)
    noise = jnp.zeros(inputs + 1).at[-1].set(1.0)
    return {
        "correct": correct,
        "other": (jnp.sum(square) / inputs - correct) / (inputs - 1),
        "noise": jnp.mean(z[:, -1]),
        "singular_values": decomposition.s,
        "noise_share": spectrum.direction_share(decomposition, noise),
    }
