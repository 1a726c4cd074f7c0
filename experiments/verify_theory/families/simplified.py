"""The simplified one-layer model of the theory, as a training problem on sampled sequences.

    x_t = e(z_t) + etilde(z_{t-1}),  logits = V sum_t a_t x_t + F x_T,
    a = softmax over t of x_T^T W x_t,  V = F = W = 0 at the start

with 2 (N + 1) orthonormal feature directions, the second half absent at t = 1. Sequences come
from toy/recall.py (`final` scoring) and gradients from automatic differentiation: nothing here
knows what the theory predicts.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from truncated_weights.toy import recall
from truncated_weights.training.loop import Measure
from truncated_weights.training.records import Name, name

Weights = dict[str, Array]


class Trace(NamedTuple):
    """Logits and what they are the sum of.

    feed_forward, attended: parts of the logits written by F and through V.
    attention: weights over positions.
    """

    logits: Float[Array, "batch tokens"]
    feed_forward: Float[Array, "batch tokens"]
    attended: Float[Array, "batch tokens"]
    attention: Float[Array, "batch length"]


def zeros(num_tokens: int) -> Weights:
    """F and V [tokens, features] and W [features, features], where training starts.

    Call it outside of jit and pass the weights as arguments. XLA on CPUs (JAX 0.10 to 0.12) joins a
    product and the sum or maximum after it into one YNNPACK kernel, and where every weight is
    one number that it can see, the kernel reads memory that nobody has written, at times NaN.
    """
    features = 2 * num_tokens
    return {
        "feed_forward": jnp.zeros((num_tokens, features)),
        "value": jnp.zeros((num_tokens, features)),
        "query_key": jnp.zeros((features, features)),
    }


def features(tokens: Int[Array, "batch length"], num_tokens: int) -> Float[Array, "b t features"]:
    """x_t at every position."""
    current = jax.nn.one_hot(tokens, num_tokens)
    previous = jnp.pad(current[:, :-1], ((0, 0), (1, 0), (0, 0)))
    return jnp.concatenate([current, previous], axis=-1)


def trace(params: Weights, tokens: Int[Array, "batch length"]) -> Trace:
    """Run the model on sequences and read the last position."""
    num_tokens = params["feed_forward"].shape[0]
    exact = jax.lax.Precision.HIGHEST
    x = features(tokens, num_tokens)
    query = jnp.matmul(x[:, -1], params["query_key"], precision=exact)
    attention = jax.nn.softmax(jnp.einsum("bf,btf->bt", query, x, precision=exact), axis=-1)
    mean = jnp.einsum("bt,btf->bf", attention, x, precision=exact)
    attended = jnp.matmul(mean, params["value"].T, precision=exact)
    fed = jnp.matmul(x[:, -1], params["feed_forward"].T, precision=exact)
    return Trace(fed + attended, fed, attended, attention)


def loss(params: Weights, tokens: Int[Array, "b t"], labels: Int[Array, " b"]) -> Float[Array, ""]:
    """Mean cross-entropy in nats of the token after the last."""
    log_p = jax.nn.log_softmax(trace(params, tokens).logits, axis=-1)
    return -jnp.mean(jnp.take_along_axis(log_p, labels[:, None], axis=1))


@dataclasses.dataclass(frozen=True, eq=False)
class Simplified:
    """The training problem (see training/loop.py): fresh sequences each step."""

    task: recall.Task
    batch_size: int

    def init(self, key: PRNGKeyArray) -> tuple[Weights, Weights]:
        """Zeros, and nothing frozen."""
        return zeros(self.task.vocab_size), {}

    def loss(self, params: Weights, frozen: Weights, key: PRNGKeyArray, shard: Any) -> Array:
        """Loss of sequences drawn from key."""
        batch = shard(recall.sample(self.task, key, batch_size=self.batch_size))
        return loss(params, batch.tokens, batch.labels[:, 0])


def measure(task: recall.Task, batch_size: int) -> Measure:
    """The Measure of fixed noisy sequences, named as in theory.learning_times.Curves."""

    def one(
        _problem: Simplified, params: Weights, frozen: Weights, key: PRNGKeyArray
    ) -> dict[Name, Array]:
        batch = recall.sample(task, key, batch_size=batch_size)
        run = trace(params, batch.tokens)
        noise, correct = task.noise[0], batch.correct[:, 0]
        previous = jnp.pad(batch.tokens[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
        after = previous == task.triggers[0]

        def mass(token: Array) -> Array:
            return jnp.mean(jnp.sum(run.attention * (after & (batch.tokens == token)), axis=1))

        def margin(logits: Array) -> Array:
            chosen = jnp.take_along_axis(logits, correct[:, None], axis=1)[:, 0]
            return jnp.mean(logits[:, noise] - chosen)

        return {
            name("p_noise"): jnp.mean(jax.nn.softmax(run.logits, axis=-1)[:, noise]),
            name("attention_correct"): mass(correct[:, None]),
            name("attention_noise"): mass(jnp.full((batch_size, 1), noise)),
            name("feed_forward_margin"): margin(run.feed_forward),
            name("attention_margin"): margin(run.attended),
        }

    return one
