"""p(noise) after it has reached alpha, at every step, and the curvature along its gradient.

The same training twice from one settled state, so that causes can be separated:

    drawn   labels and sequences drawn afresh each step, as in every run
    fair    the same sequences, each label replaced by the law it is drawn from

Cross-entropy is linear in the target, so that for a label drawn afresh from its law p*

    E_k grad L(k)  =  grad sum_k p*(k) L(k)

exactly, at the cost of one gradient instead of many draws. What is left of the wander in `fair` is
therefore no label noise: it comes from which sequences are drawn, or from an instability (the edge
of stability), which a larger batch would not lessen. Prediction: theory/plateau.py.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from truncated_weights.toy import network, recall, sharpness, transformer
from truncated_weights.toy.layer import Weights
from truncated_weights.toy.linearised import matrix_name
from truncated_weights.toy.probes.outputs import predictions
from truncated_weights.toy.recall_problem import RecallProblem

# Sequences on which p(noise) is measured, without noise, and the curvatures, with noise.
CLEAN_SEQUENCES, CURVATURE_SEQUENCES = 128, 128
POWER_STEPS, LANCZOS_STEPS = 20, 24
# Steps of one dispatch at most.
PIECE = 100


class Numbers(NamedTuple):
    """The numbers of a training, traced: one compiled program serves all of them.

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
    """The sharpest curvature of the loss, and the curvatures along the gradient of p(noise).

    modes: of the Gauss-Newton matrix; their weights are the squared components of that gradient.
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
        params, frozen = jax.jit(self.problem.init)(jax.random.key(seed))
        return State(params, jax.tree.map(jnp.zeros_like, params), frozen, jnp.int32(0))

    def advance(self, state: State, numbers: Numbers, seed: int, steps: int) -> State:
        """The state after `steps` more steps, nothing recorded."""
        return self._in_pieces(state, numbers, seed, steps, recorded=False)[0]

    def watch(
        self, state: State, numbers: Numbers, seed: int, steps: int
    ) -> tuple[State, Float[Array, " steps"]]:
        """The state after `steps` more steps, and p(noise) after each."""
        return self._in_pieces(state, numbers, seed, steps, recorded=True)

    def _in_pieces(
        self, state: State, numbers: Numbers, seed: int, steps: int, *, recorded: bool
    ) -> tuple[State, Float[Array, " steps"]]:
        found = [jnp.zeros(0)]
        for begin in range(0, steps, PIECE):
            count = min(PIECE, steps - begin)
            # Unsigned: the largest seed is 2^31, which a signed number of 32 bits does not hold.
            state, series = self._run(state, numbers, np.uint32(seed), count, recorded)
            found.append(series[:count])
        return state, jnp.concatenate(found)

    @functools.cached_property
    def _run(self) -> Callable[[State, Numbers, Any, int, bool], tuple[State, Array]]:
        # How many steps and whether they are watched is traced: compiling takes longer than most
        # of what is run.
        clean = self._clean

        @jax.jit
        def run(
            state: State, numbers: Numbers, seed: Any, count: Any, recorded: Any
        ) -> tuple[State, Array]:
            def one(index: Array, so_far: tuple[State, Array]) -> tuple[State, Array]:
                state, series = so_far
                state = self._step(state, numbers, seed)
                seen = (state.params, state.frozen, clean)
                value = jax.lax.cond(recorded, self._p_noise, lambda *_: jnp.nan, *seen)
                return state, series.at[index].set(value)

            return jax.lax.fori_loop(0, count, one, (state, jnp.zeros(PIECE)))

        return run

    def p_noise(self, state: State, without: str = "") -> float:
        """p(noise) of a state; without: LAYER.MATRIX that is set to zero, as 1.fc_out."""

        def kept(path: tuple, leaf: Array) -> Array:
            return jnp.zeros_like(leaf) if matrix_name(path) == without else leaf

        params = jax.tree_util.tree_map_with_path(kept, state.params)
        return float(self._measured(params, state.frozen, self._clean))

    @functools.cached_property
    def _measured(self) -> Callable[[Weights, Weights, recall.Batch], Array]:
        return jax.jit(self._p_noise)

    @functools.cached_property
    def curvature(self) -> Callable[[State], Curvature]:
        """The Curvature of a state, of the loss in expectation over labels, on fixed sequences."""
        batch, clean = self._batch(99, CURVATURE_SEQUENCES), self._clean

        @jax.jit
        def measure(state: State) -> Curvature:
            def loss(params: Weights) -> Array:
                return self._loss(params, state.frozen, batch, 1.0)

            def logits(params: Weights) -> Array:
                return self._logits(params, state.frozen, batch)

            gradient = jax.grad(self._p_noise)(state.params, state.frozen, clean)
            product = sharpness.gauss_newton(logits, state.params, batch.weights)
            top = sharpness.sharpest(loss, state.params, jax.random.key(0), iterations=POWER_STEPS)
            modes = sharpness.lanczos(product, gradient, steps=LANCZOS_STEPS)
            return Curvature(top.value, modes)

        return measure

    def labels(self) -> float:
        """Mean number of scored positions of a batch, over 64 batches."""
        return float(jnp.sum(self._batch(97, 64 * self.problem.batch_size).weights)) / 64

    def _batch(self, seed: int, size: int, alpha: float | None = None) -> recall.Batch:
        draw = functools.partial(recall.sample, self.problem.task, batch_size=size, alpha=alpha)
        return jax.jit(draw)(jax.random.key(seed))

    # Drawn by a program of its own and handed to the others: from a key that they know they would
    # draw it while they are compiled, which takes longer than all the rest.
    @functools.cached_property
    def _clean(self) -> recall.Batch:
        return self._batch(98, CLEAN_SEQUENCES, alpha=0.0)

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

    def _p_noise(self, params: Weights, frozen: Weights, clean: recall.Batch) -> Array:
        logits = self._logits(params, frozen, clean)
        return recall.mean(predictions(self.problem.task, logits, clean)["p_noise"], clean)
