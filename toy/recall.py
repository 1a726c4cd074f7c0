"""Noisy in-context recall, drawn on the device.

    ybar_k ~ uniform over outputs        one correct output per trigger q_k and sequence
    z_1 ~ initial
    z_t ordinary or noise:  z_{t+1} ~ transition[z_t]
    z_t = q_k:              z_{t+1} = a noise token with probability alpha, else ybar_k

Outputs are the ordinary tokens that are neither trigger nor noise. Chen, Bruna and Bietti,
"Distributional Associations vs In-Context Reasoning" (2025).
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from toy.language import Language

Scoring = Literal["every", "final"]


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """The law of the sequences and of what is scored; build it with make_task.

    initial [V] and transition [V, V]: the chain away from triggers, V the vocabulary.
    capacity: scored positions kept per sequence (static shape); see sample().
    alpha may be traced, and so may initial and transition, which then are cumulative laws
    (see cumulative), so that runs side by side may each have their own.
    """

    initial: Float[np.ndarray | Array, " vocab"]
    transition: Float[np.ndarray | Array, "vocab vocab"]
    triggers: tuple[int, ...]
    noise: tuple[int, ...]
    outputs: Int[np.ndarray, " outputs"]
    alpha: float | Float[Array, ""]
    length: int
    scoring: Scoring
    capacity: int

    @property
    def vocab_size(self) -> int:
        """Ordinary tokens and noise tokens together."""
        return len(self.initial)


class Batch(NamedTuple):
    """Sequences and their scored positions, `scored` of them per sequence.

    positions: where a prediction is asked, ascending; rows shorter than `scored` end in
    padding whose weight is 0. labels: the token that follows. correct: ybar of the trigger
    there. dropped: scored positions that did not fit, over the batch.
    """

    tokens: Int[Array, "batch length"]
    positions: Int[Array, "batch scored"]
    weights: Float[Array, "batch scored"]
    labels: Int[Array, "batch scored"]
    correct: Int[Array, "batch scored"]
    dropped: Int[Array, ""]


def mean(values: Float[Array, "batch scored"], batch: Batch) -> Float[Array, ""]:
    """Mean over scored positions."""
    return jnp.sum(values * batch.weights) / jnp.maximum(jnp.sum(batch.weights), 1)


def make_task(
    language: Language,
    *,
    alpha: float,
    length: int,
    num_triggers: int = 1,
    triggers: tuple[int, ...] = (),
    num_noise: int = 1,
    existing_noise: bool = False,
    scoring: Scoring = "every",
) -> Task:
    """The task on a language.

    triggers: the tokens themselves, else the num_triggers most frequent ones.
    existing_noise: the rarest ordinary tokens are the noise, as in the published run; by
    default num_noise new tokens N, N+1, ... are, each followed by the unigram law.
    Raises ValueError naming the argument that cannot be.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}, it must lie in [0, 1]")
    if length < 2:
        raise ValueError(f"length is {length}, a sequence needs at least 2 tokens")
    if num_triggers < 1 or num_noise < 1:
        raise ValueError("num_triggers and num_noise must be at least 1")
    size = language.num_tokens
    triggers = triggers or language.most_frequent(min(num_triggers, size))
    if len(set(triggers)) < len(triggers) or not all(0 <= q < size for q in triggers):
        raise ValueError(f"triggers {triggers} must be different tokens below {size}")

    if existing_noise:
        initial, transition = language.unigram, language.bigram
        noise = language.rarest(min(num_noise, size))
        if set(noise) & set(triggers):
            raise ValueError(f"noise {noise} and triggers {triggers} share a token")
    else:
        initial = np.concatenate([language.unigram, np.zeros(num_noise)])
        transition = np.zeros((size + num_noise, size + num_noise))
        transition[:size, :size] = language.bigram
        transition[size:, :size] = language.unigram
        noise = tuple(range(size, size + num_noise))
    outputs = np.setdiff1d(np.arange(size), [*triggers, *noise])
    if len(outputs) == 0:
        raise ValueError(f"no token is left to be an output: {size} tokens, {triggers=}, {noise=}")

    task = Task(initial, transition, triggers, noise, outputs, alpha, length, scoring, capacity=1)
    return dataclasses.replace(task, capacity=_capacity(task))


def sample(task: Task, key: PRNGKeyArray, *, batch_size: int, alpha: float | None = None) -> Batch:
    """Draw sequences and gather their scored positions; jit-able.

    alpha: in place of the task's own; 0 gives the clean version of the same task.
    `every` scores each trigger from its second occurrence on; `final` forces a trigger at
    the last position, uniform among them, and scores that one alone.
    Where a sequence has more scored positions than task.capacity the last ones are not
    scored, and counted in `dropped`.
    """
    tokens, outputs = _sequences(task, key, batch_size, task.alpha if alpha is None else alpha)
    scored = _scored(task, tokens[:, : task.length])
    # The s-th scored position is the number of prefixes that hold at most s of them: no
    # sort and no scatter, which are slow on every backend.
    so_far = jnp.cumsum(scored, axis=1)
    slots = jnp.arange(task.capacity)
    positions = jnp.sum(so_far[:, :, None] <= slots[None, None, :], axis=1)
    weights = (positions < task.length).astype(jnp.float32)
    positions = jnp.minimum(positions, task.length - 1)

    here = jnp.take_along_axis(tokens, positions, axis=1)
    which = jnp.argmax(here[:, :, None] == jnp.asarray(task.triggers)[None, None], axis=-1)
    return Batch(
        tokens=tokens[:, : task.length],
        positions=positions,
        weights=weights,
        labels=jnp.take_along_axis(tokens, positions + 1, axis=1),
        correct=jnp.take_along_axis(outputs, which, axis=1),
        dropped=jnp.sum(jnp.maximum(so_far[:, -1] - task.capacity, 0)),
    )


def _sequences(
    task: Task, key: PRNGKeyArray, batch_size: int, alpha: float | Array
) -> tuple[Int[Array, "batch _"], Int[Array, "batch triggers"]]:
    """length + 1 tokens, so that the last position has a label, and ybar per trigger."""
    output_key, first_key, walk_key, last_key = jax.random.split(key, 4)
    triggers, noise = jnp.asarray(task.triggers), jnp.asarray(task.noise)
    outputs = jax.random.choice(
        output_key, jnp.asarray(task.outputs), (batch_size, len(task.triggers))
    )
    steps, first = task.transition, task.initial
    if isinstance(steps, np.ndarray):
        steps = jnp.asarray(cumulative(steps))
    if isinstance(first, np.ndarray):
        first = jnp.asarray(cumulative(first[None]))[0]
    uniforms = jax.random.uniform(walk_key, (task.length, batch_size))
    start = _invert(first[None], jax.random.uniform(first_key, (batch_size,)))

    last_trigger = jax.random.choice(last_key, triggers, (batch_size,))
    forced = jnp.arange(task.length) == task.length - 1
    if task.scoring == "every":
        forced = jnp.zeros_like(forced)

    def step(token: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        uniform, force = inputs
        token = jnp.where(force, last_trigger, token)
        is_trigger = token[:, None] == triggers[None]
        ybar = jnp.sum(jnp.where(is_trigger, outputs, 0), axis=1)
        # One uniform decides whether there is noise and, rescaled, which noise token.
        which = (uniform / jnp.maximum(alpha, 1e-30) * len(task.noise)).astype(jnp.int32)
        noisy = noise[jnp.minimum(which, len(task.noise) - 1)]
        recalled = jnp.where(uniform < alpha, noisy, ybar)
        ordinary = _invert(steps[token], uniform)
        return jnp.where(is_trigger.any(axis=1), recalled, ordinary), token

    last, walked = jax.lax.scan(step, start, (uniforms, forced))
    return jnp.concatenate([walked.T, last[:, None]], axis=1), outputs


def _scored(task: Task, tokens: Int[Array, "batch length"]) -> Array:
    if task.scoring == "final":
        last = jnp.arange(task.length) == task.length - 1
        return jnp.broadcast_to(last, tokens.shape)
    scored = jnp.zeros(tokens.shape, bool)
    for trigger in task.triggers:
        here = tokens == trigger
        scored |= here & (jnp.cumsum(here, axis=1) >= 2)
    return scored


def _capacity(task: Task) -> int:
    """Scored positions to make room for: the most seen in 4,096 sequences, and a margin.

    No trigger follows itself (outputs and noise are not triggers), so half the length is a
    bound that always holds.
    """
    if task.scoring == "final":
        return 1
    bound = (task.length + 1) // 2
    rng = np.random.default_rng(0)
    most = max(
        _most_scored(task, rng, alpha, num_sequences=2048) for alpha in (0.0, float(task.alpha))
    )
    return max(1, min(bound, int(np.ceil(1.05 * most)) + 2))


def _most_scored(task: Task, rng: np.random.Generator, alpha: float, *, num_sequences: int) -> int:
    # In NumPy, so that building a task touches no device.
    steps = cumulative(np.asarray(task.transition))
    outputs = rng.choice(task.outputs, (num_sequences, len(task.triggers)))
    token = _invert_numpy(cumulative(np.asarray(task.initial)[None]), rng.random(num_sequences))
    seen = np.zeros((num_sequences, len(task.triggers)), int)
    for _ in range(task.length):
        is_trigger = token[:, None] == np.asarray(task.triggers)
        seen += is_trigger
        recalled = np.where(
            rng.random(num_sequences) < alpha,
            rng.choice(np.asarray(task.noise), num_sequences),
            np.sum(np.where(is_trigger, outputs, 0), axis=1),
        )
        ordinary = _invert_numpy(steps[token], rng.random(num_sequences))
        token = np.where(is_trigger.any(axis=1), recalled, ordinary)
    return int(np.maximum(seen - 1, 0).sum(axis=1).max())


def cumulative(law: Float[np.ndarray, "rows vocab"]) -> Float[np.ndarray, "rows vocab"]:
    """Cumulative law in float32, whose last possible token catches all that is left."""
    summed = np.cumsum(law, axis=1)
    last_possible = law.shape[1] - 1 - np.argmax(law[:, ::-1] > 0, axis=1)
    summed[np.arange(law.shape[1])[None] >= last_possible[:, None]] = 1
    return summed.astype(np.float32)


def _invert(summed: Array, uniform: Array) -> Array:
    return jnp.sum(uniform[:, None] >= summed, axis=1)


def _invert_numpy(summed: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    return np.sum(uniform[:, None] >= summed, axis=1)
