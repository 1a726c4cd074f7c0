"""The linear associative memory with noise: one matrix, cross-entropy.

    logits(x) = E[x] W U,  x ~ frequencies over N inputs, [N + 1] classes, class N the noise
    p*(k | x) = (1 - alpha) 1{k = x} + alpha 1{k = N},  W = 0 at the start

Orthonormal embeddings are E = I_N, U = I_{N+1}, so that W is the matrix of logits. Random ones
have Gaussian entries of variance 1/d. A shared feature of weight r makes every two inputs
overlap: E[x] = sqrt(1 - r) e_x + sqrt(r) e_0, e_0 one more direction (or Gaussian row). Gradient
descent of step eta follows the gradient flow at time t = eta * steps with an error of order
eta. Chen, Bruna and Bietti (2025), section on the linear associative memory; the exact
solutions are in theory/memory_flow.py and, with frequencies and a shared feature, in
theory/frequent_memory.py.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from truncated_weights.toy import language
from truncated_weights.toy.transformer import Frozen
from truncated_weights.truncation import address, notation, spectrum
from truncated_weights.truncation.finite import hits

Weights = dict[str, Any]
Law = Literal["uniform", "zipf", "text"]

# The memory is a feed-forward of one linear map, so the notation calls it 0.fc_in.
MATRICES: dict[notation.Key, address.Address] = {(0, "fc_in"): address.at_path("fc_in")}


class AssociativeMemory(nnx.Module):
    """One learned map between frozen embeddings of the inputs and of the classes."""

    def __init__(self, num_inputs: int, *, d_model: int, shared: float, rngs: nnx.Rngs):
        inputs, classes = num_inputs, num_inputs + 1
        # A shared feature is one more row, which every input reads besides its own.
        rows = inputs + 1 if shared else inputs
        if d_model:
            scale = 1 / math.sqrt(d_model)
            own = scale * jax.random.normal(rngs.params(), (rows, d_model))
            unembed = scale * jax.random.normal(rngs.params(), (d_model, classes))
        else:
            own, unembed = jnp.eye(rows), jnp.eye(classes)
        embed = math.sqrt(1 - shared) * own[1:] + math.sqrt(shared) * own[:1] if shared else own
        self.embed, self.unembed = Frozen(embed), Frozen(unembed)
        self.fc_in = nnx.Param(jnp.zeros((embed.shape[1], unembed.shape[0])))

    def __call__(self) -> Float[Array, "inputs classes"]:
        """Logits of every class for every input."""
        exact = jax.lax.Precision.HIGHEST
        mapped = jnp.matmul(self.embed[...], self.fc_in[...], precision=exact)
        return jnp.matmul(mapped, self.unembed[...], precision=exact)


@dataclasses.dataclass(frozen=True)
class Memory:
    """A training problem (see training/loop.py).

    d_model 0 means orthonormal embeddings. batch_size 0 means the exact population loss;
    otherwise each step draws that many inputs and noisy targets. frequencies: one per input,
    summing to one; empty means uniform. shared: overlap r of any two inputs.
    """

    num_inputs: int
    alpha: float
    d_model: int = 0
    batch_size: int = 0
    frequencies: tuple[float, ...] = ()
    shared: float = 0.0
    embeddings: Literal["orthonormal", "random"] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        if self.num_inputs < 2:
            raise ValueError(f"num_inputs is {self.num_inputs}, a memory needs at least 2")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha is {self.alpha}, it must lie in (0, 1)")
        if self.d_model < 0 or self.batch_size < 0:
            raise ValueError("d_model and batch_size must not be negative")
        if not 0 <= self.shared < 1:
            raise ValueError(f"shared is {self.shared}, it must lie in [0, 1)")
        if self.frequencies:
            if len(self.frequencies) != self.num_inputs:
                raise ValueError(
                    f"frequencies has {len(self.frequencies)} entries for {self.num_inputs} inputs"
                )
            if min(self.frequencies) <= 0 or abs(sum(self.frequencies) - 1) > 1e-6:
                raise ValueError("frequencies must be positive and sum to one")
        object.__setattr__(self, "embeddings", "random" if self.d_model else "orthonormal")

    def init(self, key: PRNGKeyArray) -> tuple[Weights, Weights]:
        """Trained W = 0 and the frozen embeddings; the key draws those that are random."""
        module = AssociativeMemory(
            self.num_inputs, d_model=self.d_model, shared=self.shared, rngs=nnx.Rngs(key)
        )
        states: Any = nnx.split(module, nnx.Param, ...)
        return nnx.to_pure_dict(states[1]), nnx.to_pure_dict(states[2])

    def law(self) -> Float[Array, " inputs"]:
        """Frequency of each input, summing to one."""
        if not self.frequencies:
            return jnp.full(self.num_inputs, 1 / self.num_inputs)
        return jnp.asarray(self.frequencies)

    def loss(
        self, params: Weights, frozen: Weights, key: PRNGKeyArray, shard: Any
    ) -> Float[Array, ""]:
        """Mean cross-entropy in nats."""
        weights = {**frozen, **params}
        if not self.batch_size:
            return population_loss(weights, self.law(), self.target())
        log_p = jax.nn.log_softmax(logits(weights), axis=-1)
        input_key, noise_key = jax.random.split(key)
        if self.frequencies:
            x = jax.random.choice(input_key, self.num_inputs, (self.batch_size,), p=self.law())
        else:
            x = jax.random.randint(input_key, (self.batch_size,), 0, self.num_inputs)
        x = shard(x)
        noisy = jax.random.bernoulli(noise_key, self.alpha, (self.batch_size,))
        return -jnp.mean(log_p[x, jnp.where(noisy, self.num_inputs, x)])

    def target(self) -> Float[Array, "inputs classes"]:
        """p*(k | x): 1 - alpha at k = x, alpha at the noise class, the last one."""
        correct = (1 - self.alpha) * jnp.eye(self.num_inputs, self.num_inputs + 1)
        return correct.at[:, -1].set(self.alpha)


@functools.cache
def _graphdef() -> Any:
    build = functools.partial(AssociativeMemory, 2, d_model=0, shared=0.0)
    return nnx.split(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0))))[0]


def logits(weights: Weights) -> Float[Array, "inputs classes"]:
    """Logits of every class for every input."""
    return nnx.merge(_graphdef(), weights)()


def population_loss(
    weights: Weights, law: Float[Array, " inputs"], target: Float[Array, "inputs classes"]
) -> Float[Array, ""]:
    """Mean cross-entropy in nats, inputs x drawn from law and classes k from target p*(k | x)."""
    log_p = jax.nn.log_softmax(logits(weights), axis=-1)
    return -jnp.sum(law[:, None] * target * log_p)


def frequencies(
    law: Law, num_inputs: int, *, exponent: float = 1.0, text: str = ""
) -> tuple[float, ...]:
    """Frequencies of the inputs, the most frequent first: the setting of `Memory`.

    uniform: empty, so that `Memory` draws as it does without frequencies. zipf: proportional
    to rank^-exponent. text: the num_inputs most frequent symbols of the file `text`.

    Raises:
      ValueError: where the text cannot be read or has too few symbols.

    """
    if law == "uniform":
        return ()
    if law == "zipf":
        counts = np.arange(1, num_inputs + 1) ** -float(exponent)
    else:
        unigram = np.sort(language.read(text).unigram)[::-1]
        if unigram.size < num_inputs:
            raise ValueError(f"{text} has {unigram.size} symbols, num_inputs is {num_inputs}")
        counts = unigram[:num_inputs]
    return tuple((counts / counts.sum()).tolist())


def measure_facts(weights: Weights) -> Mapping[str, Array]:
    """For every input p_correct, p_noise and margin: correct logit less the largest other."""
    z = logits(weights)
    p = jax.nn.softmax(z, axis=-1)
    own = jnp.eye(z.shape[0], z.shape[1], dtype=bool)
    return {
        "p_correct": jnp.sum(p * own, axis=1),
        "p_noise": p[:, -1],
        "margin": jnp.sum(z * own, axis=1) - jnp.max(jnp.where(own, -jnp.inf, z), axis=1),
    }


def measure_outputs(weights: Weights) -> Mapping[str, Array]:
    """Mean over inputs of p(correct), p(noise) and the accuracy."""
    z = logits(weights)
    p = jax.nn.softmax(z, axis=-1)
    inputs = z.shape[0]
    return {
        "p_correct": jnp.trace(p[:, :inputs]) / inputs,
        "p_noise": jnp.mean(p[:, -1]),
        "accuracy": jnp.mean(hits(z, jnp.arange(inputs))),
    }


def measure_logits(weights: Weights) -> Mapping[str, Array]:
    """The three logits of theory/memory_flow.py, averaged over inputs, and their spectrum.

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
