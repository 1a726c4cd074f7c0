"""Noisy in-context recall, drawn on the device.

    ybar_k ~ uniform over outputs        one correct output per trigger q_k and sequence,
                                         or ~ output_law[q_k]
    z_1 ~ initial
    z_t ordinary or noise:  z_{t+1} ~ transition[z_t]
    z_t = q_k:              z_{t+1} = a noise token with probability alpha, else ybar_k

Outputs are the ordinary tokens that are neither trigger nor noise, unless asked otherwise; the
published run draws them over all tokens, triggers and noise included. Chen, Bruna and Bietti,
"Distributional Associations vs In-Context Reasoning" (2025).

The law is written once, as functions of what is drawn on either array namespace xp: jax.numpy for
`sample`, and numpy for `make_task`, which touches no device.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from truncated_weights.toy.language import Language

Scoring = Literal["every", "final"]
Outputs = Literal["others", "all", "not_trigger", "bigram", "heldout"]
# The part of the outputs that is trained on where some are held out.
TRAINED_PART = 0.75


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """The law of the sequences and of what is scored; build it with make_task.

    initial [V] and transition [V, V]: the chain away from triggers, V the vocabulary.
    capacity: scored positions kept per sequence (static shape); see sample(). clean_capacity
    is that of sequences without noise: many more where a trigger may be its own output.
    output_law: row q is the law of trigger q's output; None where it is uniform over outputs.
    held_out: outputs that are never trained on. trigger_law: where it is given, each sequence
    draws its triggers from it, without replacement; `triggers` then says how many, and names
    the likeliest.
    scored_mean, scored_deviation: of the number of scored positions of a sequence, the larger of
    those with and without noise.
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
    output_law: Float[np.ndarray, "vocab vocab"] | None = None
    held_out: Int[np.ndarray, " held"] | None = None
    trigger_law: Float[np.ndarray, " vocab"] | None = None
    clean_capacity: int = 0
    scored_mean: float = 0.0
    scored_deviation: float = 0.0

    def room(self, batch_size: int, slots: int) -> int:
        """Rows that hold the scored positions of a batch: all slots, or far above the usual.

        A quarter and eight standard deviations more than the mean; where the law is traced,
        nothing is known of it and every slot has a row.
        """
        known = isinstance(self.transition, np.ndarray) and isinstance(self.initial, np.ndarray)
        if not known or not self.scored_mean:
            return batch_size * slots
        spread = 8 * self.scored_deviation * np.sqrt(batch_size)
        usual = 1.25 * self.scored_mean * batch_size + spread
        return min(batch_size * slots, int(np.ceil(usual)) + slots)

    @property
    def vocab_size(self) -> int:
        """Ordinary tokens and noise tokens together."""
        return len(self.initial)


class Batch(NamedTuple):
    """Sequences and their scored positions, `scored` of them per sequence.

    positions: where a prediction is asked, ascending; rows shorter than `scored` end in
    padding whose weight is 0. labels: the token that follows. correct: ybar of the trigger
    there. following: the token after each position. at_trigger: whether a trigger stands there.
    dropped: scored positions that did not fit, over the batch.
    """

    tokens: Int[Array, "batch length"]
    following: Int[Array, "batch length"]
    at_trigger: Bool[Array, "batch length"]
    positions: Int[Array, "batch scored"]
    weights: Float[Array, "batch scored"]
    labels: Int[Array, "batch scored"]
    correct: Int[Array, "batch scored"]
    dropped: Int[Array, ""]


class Scored(NamedTuple):
    """What is known of scored positions when their sequences are no longer needed; see Batch."""

    positions: Int[Array, "batch scored"]
    weights: Float[Array, "batch scored"]
    labels: Int[Array, "batch scored"]
    correct: Int[Array, "batch scored"]


def mean(values: Float[Array, "batch scored"], batch: Batch | Scored) -> Float[Array, ""]:
    """Mean over scored positions."""
    return jnp.sum(values * batch.weights) / jnp.maximum(jnp.sum(batch.weights), 1)


def log_likelihood(
    logits: Float[Array, "batch scored vocab"], labels: Int[Array, "batch scored"]
) -> Float[Array, "batch scored"]:
    """log p(label), in nats."""
    log_p = jax.nn.log_softmax(logits, axis=-1)
    return jnp.take_along_axis(log_p, labels[:, :, None], axis=-1)[:, :, 0]


def make_task(
    language: Language,
    *,
    alpha: float,
    length: int,
    num_triggers: int = 1,
    triggers: tuple[int, ...] = (),
    trigger_offset: int = 0,
    random_triggers: bool = False,
    num_noise: int = 1,
    noise: tuple[int, ...] = (),
    existing_noise: bool = False,
    outputs: Outputs = "others",
    scoring: Scoring = "every",
) -> Task:
    """The task on a language.

    triggers: the tokens themselves, else the num_triggers most frequent ones after the
        trigger_offset most frequent.
    random_triggers: every sequence draws its own from the unigram law, without the noise.
    noise: ordinary tokens that are the noise; existing_noise: the num_noise rarest are. By
        default num_noise new tokens N, N+1, ... are, each followed by the unigram law.
    outputs: what ybar is uniform over: others (ordinary tokens but triggers and noise), all
        tokens, all that are not_trigger of the sequence's own, heldout (three quarters of the
        others, drawn once; the rest is Task.held_out); or bigram, from the trigger's own row.
    Raises ValueError naming the argument that cannot be.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}, it must lie in [0, 1]")
    if length < 2:
        raise ValueError(f"length is {length}, a sequence needs at least 2 tokens")
    if num_triggers < 1 or num_noise < 1:
        raise ValueError("num_triggers and num_noise must be at least 1")
    size = language.num_tokens
    if trigger_offset < 0 or trigger_offset >= size:
        raise ValueError(f"trigger_offset is {trigger_offset}, there are {size} ordinary tokens")
    ranked = language.most_frequent(min(trigger_offset + num_triggers, size))
    triggers = triggers or ranked[trigger_offset:]
    if len(set(triggers)) < len(triggers) or not all(0 <= q < size for q in triggers):
        raise ValueError(f"triggers {triggers} must be different tokens below {size}")

    if existing_noise or noise:
        initial, transition = language.unigram, language.bigram
        noise = noise or language.rarest(min(num_noise, size))
        if len(set(noise)) < len(noise) or not all(0 <= token < size for token in noise):
            raise ValueError(f"noise {noise} must be different tokens below {size}")
        if set(noise) & set(triggers):
            raise ValueError(f"noise {noise} and triggers {triggers} share a token")
    else:
        initial = np.concatenate([language.unigram, np.zeros(num_noise)])
        transition = np.zeros((size + num_noise, size + num_noise))
        transition[:size, :size] = language.bigram
        transition[size:, :size] = language.unigram
        noise = tuple(range(size, size + num_noise))
    vocab = len(initial)
    others = np.setdiff1d(np.arange(size), [*noise] if random_triggers else [*triggers, *noise])
    if len(others) == 0:
        raise ValueError(f"no token is left to be an output: {size} tokens, {triggers=}, {noise=}")
    chosen, law, held_out = others, None, None
    if outputs == "all":
        chosen = np.arange(vocab)
    elif outputs == "bigram":
        law = transition
    elif outputs == "not_trigger" or random_triggers:
        # A trigger of the sequence is never its own output; others may be.
        allowed = np.zeros((vocab, vocab))
        allowed[:, np.arange(vocab) if outputs == "not_trigger" else others] = 1
        np.fill_diagonal(allowed, 0)
        law = allowed / allowed.sum(axis=1, keepdims=True)
    if outputs == "heldout":
        if random_triggers:
            raise ValueError("heldout outputs need triggers that are the same in all sequences")
        shuffled = np.random.default_rng(0).permutation(others)
        trained = max(1, int(TRAINED_PART * len(others)))
        chosen, held_out = np.sort(shuffled[:trained]), np.sort(shuffled[trained:])
        if len(held_out) == 0:
            raise ValueError(f"nothing can be held out of {len(others)} outputs")
    trigger_law = None
    if random_triggers:
        trigger_law = np.where(np.isin(np.arange(vocab), noise), 0, initial)
        if np.count_nonzero(trigger_law) < len(triggers):
            raise ValueError(f"{len(triggers)} random triggers: too few tokens can be one")
        trigger_law = trigger_law / trigger_law.sum()
    task = Task(
        initial, transition, triggers, noise, chosen, alpha, length, scoring, capacity=1,
        output_law=law, held_out=held_out, trigger_law=trigger_law,
    )  # fmt: skip
    counts = [_scored_counts(task, rate, num_sequences=2048) for rate in (alpha, 0.0)]
    noisy, clean = (_capacity(task, count) for count in counts)
    if law is None and outputs != "all":
        noisy = clean = max(noisy, clean)
    return dataclasses.replace(
        task,
        capacity=noisy,
        clean_capacity=clean,
        scored_mean=float(max(count.mean() for count in counts)),
        scored_deviation=float(max(count.std() for count in counts)),
    )


def with_held_out(task: Task) -> Task:
    """The same task on the outputs that are never trained on; ValueError where there are none."""
    if task.held_out is None:
        raise ValueError("the task holds no outputs out")
    return dataclasses.replace(task, outputs=task.held_out)


def sample(task: Task, key: PRNGKeyArray, *, batch_size: int, alpha: float | None = None) -> Batch:
    """Draw sequences and gather their scored positions; jit-able.

    alpha: in place of the task's own; 0 gives the clean version of the same task.
    `every` scores each trigger from its second occurrence on; `final` forces a trigger at
    the last position, uniform among them, and scores that one alone.
    Where a sequence has more scored positions than the task's capacity the last ones are
    not scored, and counted in `dropped`.
    """
    clean = isinstance(alpha, int | float) and alpha == 0
    slots_kept = task.clean_capacity if clean else task.capacity
    rate = task.alpha if alpha is None else alpha
    tokens, triggers, outputs = _sequences(task, key, batch_size, rate)
    scored = scored_at(jnp, task, tokens[:, : task.length], triggers)
    # The s-th scored position is the number of prefixes that hold at most s of them: no
    # sort and no scatter, which are slow on every backend.
    so_far = jnp.cumsum(scored, axis=1)
    slots = jnp.arange(slots_kept)
    positions = jnp.sum(so_far[:, :, None] <= slots[None, None, :], axis=1)
    weights = (positions < task.length).astype(jnp.float32)
    positions = jnp.minimum(positions, task.length - 1)

    here = jnp.take_along_axis(tokens, positions, axis=1)
    which = jnp.argmax(here[:, :, None] == triggers[:, None], axis=-1)
    standing = tokens[:, : task.length, None] == triggers[:, None]
    return Batch(
        tokens=tokens[:, : task.length],
        following=tokens[:, 1:],
        at_trigger=jnp.any(standing, axis=-1),
        positions=positions,
        weights=weights,
        labels=jnp.take_along_axis(tokens, positions + 1, axis=1),
        correct=jnp.take_along_axis(outputs, which, axis=1),
        dropped=jnp.sum(jnp.maximum(so_far[:, -1] - slots_kept, 0)),
    )


def _sequences(
    task: Task, key: PRNGKeyArray, batch_size: int, alpha: float | Array
) -> tuple[Int[Array, "batch _"], Int[Array, "batch triggers"], Int[Array, "batch triggers"]]:
    """length + 1 tokens, so that the last position has a label; triggers, and ybar of each."""
    output_key, first_key, walk_key, last_key = jax.random.split(key, 4)
    noise = jnp.asarray(task.noise)
    gumbel = None
    if task.trigger_law is not None:
        gumbel = jax.random.gumbel(jax.random.fold_in(key, 4), (batch_size, task.vocab_size))
    triggers = triggers_of(jnp, task, batch_size, gumbel)
    if task.output_law is None:
        outputs = jax.random.choice(output_key, jnp.asarray(task.outputs), triggers.shape)
    else:
        rows = jnp.asarray(cumulative(task.output_law))[triggers]
        outputs = invert(jnp, rows, jax.random.uniform(output_key, triggers.shape))
    first, steps = _cumulative_laws(jnp, task)
    uniforms = jax.random.uniform(walk_key, (task.length, batch_size))
    start = invert(jnp, first[None], jax.random.uniform(first_key, (batch_size,)))

    last_trigger, forced = triggers[:, 0], jnp.arange(task.length) == task.length - 1
    # A draw costs a program more to compile than to run: none is made that decides nothing.
    if task.scoring == "final" and len(task.triggers) > 1:
        place = jax.random.choice(last_key, len(task.triggers), (batch_size,))
        last_trigger = jnp.take_along_axis(triggers, place[:, None], axis=1)[:, 0]

    def step(token: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        uniform, force = inputs
        if task.scoring == "final":
            token = jnp.where(force, last_trigger, token)
        # One uniform decides whether there is noise and, rescaled, which noise token.
        place = (uniform / jnp.maximum(alpha, 1e-30) * len(task.noise)).astype(jnp.int32)
        drawn = Draws(uniform < alpha, noise[jnp.minimum(place, len(task.noise) - 1)], uniform)
        return following(jnp, steps, triggers, outputs, token, drawn), token

    last, walked = jax.lax.scan(step, start, (uniforms, forced))
    return jnp.concatenate([walked.T, last[:, None]], axis=1), triggers, outputs


class Draws(NamedTuple):
    """What decides the token that follows, for each sequence.

    is_noise: after a trigger, whether noise follows; true with probability alpha. noise: which
    noise token that is, uniform. uniform: in [0, 1), which token follows an ordinary one. It may
    decide the other two as well, since only one of the cases comes to pass.
    """

    is_noise: Any
    noise: Any
    uniform: Any


def following(xp: Any, steps: Any, triggers: Any, outputs: Any, token: Any, draws: Draws) -> Any:
    """z_{t+1} [batch] from z_t = token [batch]: the law at the head of this file.

    xp: numpy or jax.numpy. steps [V, V]: the transition, cumulative. triggers, outputs
    [batch, triggers]: q_k and ybar_k of each sequence.
    """
    is_trigger = token[:, None] == triggers
    ybar = xp.sum(xp.where(is_trigger, outputs, 0), axis=1)
    recalled = xp.where(draws.is_noise, draws.noise, ybar)
    ordinary = invert(xp, steps[token], draws.uniform)
    return xp.where(is_trigger.any(axis=1), recalled, ordinary)


def triggers_of(xp: Any, task: Task, batch_size: int, gumbel: Any) -> Any:
    """The triggers of each sequence, [batch, triggers].

    gumbel [batch, V]: standard Gumbel noise, where triggers are drawn from a law; else not read.
    """
    count = len(task.triggers)
    if task.trigger_law is None:
        return xp.broadcast_to(xp.asarray(task.triggers)[None], (batch_size, count))
    # The largest of log p + Gumbel noise are draws without replacement.
    logits = xp.log(xp.asarray(task.trigger_law, gumbel.dtype))
    return xp.argsort(-(logits[None] + gumbel), axis=1)[:, :count]


def scored_at(xp: Any, task: Task, tokens: Any, triggers: Any) -> Any:
    """Which positions are scored, bool [batch, length]; tokens [batch, length].

    every: each trigger from its second occurrence on. final: the last position.
    """
    if task.scoring == "final":
        return xp.broadcast_to(xp.arange(task.length) == task.length - 1, tokens.shape)
    scored = xp.zeros(tokens.shape, bool)
    for index in range(len(task.triggers)):
        here = tokens == triggers[:, index : index + 1]
        scored |= here & (xp.cumsum(here, axis=1) >= 2)
    return scored


def invert(xp: Any, summed: Any, uniform: Any) -> Any:
    """The draw of a cumulative law [..., V] that a uniform [...] stands for, in 0 ... V - 1."""
    return xp.sum(uniform[..., None] >= summed, axis=-1)


def _cumulative_laws(xp: Any, task: Task) -> tuple[Any, Any]:
    """initial [V] and transition [V, V], cumulative; traced ones already are."""
    initial, transition = task.initial, task.transition
    if isinstance(initial, np.ndarray):
        initial = xp.asarray(cumulative(initial[None]))[0]
    if isinstance(transition, np.ndarray):
        transition = xp.asarray(cumulative(transition))
    return initial, transition


def _capacity(task: Task, counts: Int[np.ndarray, " sequences"]) -> int:
    """Scored positions to make room for: the most seen in some sequences, and a margin.

    Where no trigger can be an output none follows itself, and half the length is a bound that
    always holds.
    """
    if task.scoring == "final":
        return 1
    repeats = task.output_law is not None or bool(set(task.triggers) & set(task.outputs))
    bound = task.length if repeats else (task.length + 1) // 2
    return max(1, min(bound, int(np.ceil(1.05 * counts.max())) + 2))


def _scored_counts(
    task: Task, alpha: float, *, num_sequences: int
) -> Int[np.ndarray, " sequences"]:
    """Number of scored positions in each of `num_sequences` sequences, drawn in NumPy."""
    rng = np.random.default_rng(0)
    gumbel = None
    if task.trigger_law is not None:
        gumbel = rng.gumbel(size=(num_sequences, task.vocab_size))
    with np.errstate(divide="ignore"):
        triggers = triggers_of(np, task, num_sequences, gumbel)
    outputs = rng.choice(task.outputs, triggers.shape)
    if task.output_law is not None:
        rows = cumulative(task.output_law)[triggers]
        outputs = invert(np, rows, rng.random(triggers.shape))
    first, steps = _cumulative_laws(np, task)
    token = invert(np, first[None], rng.random(num_sequences))
    walked = np.empty((num_sequences, task.length), token.dtype)
    for position in range(task.length):
        walked[:, position] = token
        drawn = Draws(
            rng.random(num_sequences) < alpha,
            rng.choice(np.asarray(task.noise), num_sequences),
            rng.random(num_sequences),
        )
        token = following(np, steps, triggers, outputs, token, drawn)
    return scored_at(np, task, walked, triggers).sum(axis=1)


def cumulative(law: Float[np.ndarray, "rows vocab"]) -> Float[np.ndarray, "rows vocab"]:
    """Cumulative law in float32, whose last possible token catches all that is left."""
    summed = np.cumsum(law, axis=1)
    last_possible = law.shape[1] - 1 - np.argmax(law[:, ::-1] > 0, axis=1)
    summed[np.arange(law.shape[1])[None] >= last_possible[:, None]] = 1
    return summed.astype(np.float32)
