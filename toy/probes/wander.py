"""What p(noise) does once it has reached alpha: watched step by step, with the curvature it meets.

The same training twice from one settled state, so that causes can be told apart:

    drawn   labels and sequences drawn afresh each step, as in every run
    fair    the same sequences, each label replaced by the law it is drawn from

What is left of the wander in `fair` is no label noise: it comes from which sequences are drawn,
or from an instability (the edge of stability), which a larger batch would not lessen. Prediction:
theory/plateau.py.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from toy import network, recall, sharpness, transformer
from toy.layer import Weights
from toy.linearised import matrix_name
from toy.probes.outputs import predictions
from toy.recall_problem import RecallProblem

# Sequences that p(noise) is watched on, without noise, and that curvatures are measured on, with.
WATCHED_ON, BENT_ON = 128, 128
POWER_STEPS, LANCZOS_STEPS = 20, 24


class Numbers(NamedTuple):
    """What is traced: one compiled program serves every rate and momentum, and both kinds.

    fair: 0 for labels as they are drawn, 1 for their law.
    """

    learning_rate: float | Float[Array, ""]
    momentum: float | Float[Array, ""]
    fair: float | Float[Array, ""] = 0.0


class State(NamedTuple):
    """Weights in training and their velocity, frozen weights, and how many steps were made."""

    params: Weights
    velocity: Weights
    frozen: Weights
    step: Any


class Curvature(NamedTuple):
    """The sharpest curvature of the loss, and the curvatures that the gradient of p(noise) meets.

    modes: of the Gauss-Newton matrix, weights the squared components of that gradient.
    """

    sharpness: Float[Array, ""]
    modes: sharpness.Modes


@dataclasses.dataclass(frozen=True, eq=False)
class Watcher:
    """Heavy ball on a recall problem, p(noise) recorded on clean sequences after every step.

    Plain SGD v <- mu v - rate * gradient, as training's without decay; its own loop because the
    labels are exchanged under way and each step is measured.
    """

    problem: RecallProblem

    def start(self, seed: int) -> State:
        """The weights of a seed, at rest."""
        params, frozen = self.problem.init(jax.random.key(seed))
        return State(params, jax.tree.map(jnp.zeros_like, params), frozen, jnp.int32(0))

    @functools.cached_property
    def advance(self) -> Callable[[State, Numbers, int, int], State]:
        """(state, numbers, seed, steps) -> state, nothing recorded."""

        @jax.jit
        def run(state: State, numbers: Numbers, seed: Any, steps: Any) -> State:
            return jax.lax.fori_loop(
                0, steps, lambda _, state: self._step(state, numbers, seed), state
            )

        return run

    def watch(
        self, state: State, numbers: Numbers, seed: int, steps: int
    ) -> tuple[State, Float[Array, " steps"]]:
        """The state after so many steps, and p(noise) after each."""
        return self._watch(state, numbers, seed, steps)

    @functools.cached_property
    def _watch(self) -> Callable:
        def run(state: State, numbers: Numbers, seed: Any, steps: int) -> tuple[State, Array]:
            def one(state: State, _: None) -> tuple[State, Array]:
                state = self._step(state, numbers, seed)
                return state, self._p_noise(state.params, state.frozen)

            return jax.lax.scan(one, state, length=steps)

        return jax.jit(run, static_argnums=3)

    def p_noise(self, state: State, without: str = "") -> float:
        """p(noise) of a state; without: LAYER.MATRIX that is set to zero, as 1.fc_out."""

        def kept(path: tuple, leaf: Array) -> Array:
            return jnp.zeros_like(leaf) if matrix_name(path) == without else leaf

        params = jax.tree_util.tree_map_with_path(kept, state.params)
        return float(self._measured(params, state.frozen))

    @functools.cached_property
    def _measured(self) -> Callable[[Weights, Weights], Array]:
        return jax.jit(self._p_noise)

    @functools.cached_property
    def curvature(self) -> Callable[[State], Curvature]:
        """Of the loss in expectation over labels, on sequences of its own."""
        task = self.problem.task
        batch = recall.sample(task, jax.random.key(99), batch_size=BENT_ON)

        @jax.jit
        def measure(state: State) -> Curvature:
            def loss(params: Weights) -> Array:
                return self._loss(params, state.frozen, batch, 1.0)

            def logits(params: Weights) -> Array:
                return self._logits(params, state.frozen, batch)

            gradient = jax.grad(self._p_noise)(state.params, state.frozen)
            product = sharpness.gauss_newton(logits, state.params, batch.weights)
            top = sharpness.sharpest(loss, state.params, jax.random.key(0), iterations=POWER_STEPS)
            modes = sharpness.lanczos(product, gradient, steps=LANCZOS_STEPS)
            return Curvature(top.value, modes)

        return measure

    def labels(self) -> float:
        """Scored positions of a batch, on average over 64 batches."""
        size = 64 * self.problem.batch_size
        batch = recall.sample(self.problem.task, jax.random.key(97), batch_size=size)
        return float(jnp.sum(batch.weights)) / 64

    def _step(self, state: State, numbers: Numbers, seed: Any) -> State:
        data = jax.random.fold_in(jax.random.key(seed), 1)
        key = jax.random.fold_in(data, state.step)
        batch = recall.sample(self.problem.task, key, batch_size=self.problem.batch_size)
        gradient = jax.grad(self._loss)(state.params, state.frozen, batch, numbers.fair)
        rate, momentum = numbers.learning_rate, numbers.momentum
        velocity = jax.tree.map(lambda v, g: momentum * v - rate * g, state.velocity, gradient)
        params = jax.tree.map(jnp.add, state.params, velocity)
        return State(params, velocity, state.frozen, state.step + 1)

    def _loss(self, params: Weights, frozen: Weights, batch: recall.Batch, fair: Any) -> Array:
        """Mean cross-entropy with drawn labels, with their law, or between."""
        task = self.problem.task
        log_p = jax.nn.log_softmax(self._logits(params, frozen, batch), axis=-1)
        drawn = jax.nn.one_hot(batch.labels, task.vocab_size)
        noise = np.zeros((1, 1, task.vocab_size), np.float32)
        noise[..., list(task.noise)] = 1 / len(task.noise)
        law = (1 - task.alpha) * jax.nn.one_hot(batch.correct, task.vocab_size) + task.alpha * noise
        target = (1 - fair) * drawn + fair * law
        return -recall.mean(jnp.sum(target * log_p, axis=-1), batch)

    def _logits(self, params: Weights, frozen: Weights, batch: recall.Batch) -> Array:
        weights = transformer.combine(params, frozen)
        return network.run(self.problem.config, weights, batch.tokens, batch.positions).logits

    def _p_noise(self, params: Weights, frozen: Weights) -> Array:
        task = self.problem.task
        batch = recall.sample(task, jax.random.key(98), batch_size=WATCHED_ON, alpha=0.0)
        found = predictions(task, self._logits(params, frozen, batch), batch)
        return recall.mean(found["p_noise"], batch)
