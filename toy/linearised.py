"""The recall Transformer made linear in some of its weights, and its kernel at the start.

    f(p) -> f(p0_L, p_R) + J_L(p0_L, p_R) (p_L - p0_L)

with L the matrices made linear and R the rest, p0 the weights at the start. All matrices in L is
the linearised model: it learns with the kernel it starts with, and whatever it cannot learn needs
features. R alone is the ordinary model. Predictions: theory/lazy.py.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from truncated_weights.toy import network, recall, transformer
from truncated_weights.toy.probes.outputs import predictions
from truncated_weights.toy.recall import Batch, Task
from truncated_weights.toy.recall_problem import RecallProblem
from truncated_weights.toy.transformer import TransformerConfig, Weights
from truncated_weights.training.loop import Measure, Shard
from truncated_weights.training.records import Name, name

# The matrices of each part of the network, as they are made linear and compared.
PARTS: dict[str, tuple[str, ...]] = {
    "ff1": ("0.fc_in", "0.fc_out"),
    "ff2": ("1.fc_in", "1.fc_out"),
    "attention": ("0.q_proj", "1.q_proj", "0.k_proj", "1.k_proj"),
    "values": ("0.v_proj", "0.out_proj", "1.v_proj", "1.out_proj"),
}


def matrices(config: TransformerConfig) -> tuple[str, ...]:
    """Every learned matrix as LAYER.MATRIX."""
    named = (f"{i}.{name}" for i in range(config.num_layers) for name in config.names(i))
    return tuple(name for name in named if name not in config.frozen)


@dataclasses.dataclass(frozen=True, eq=False)
class LinearisedProblem:
    """A recall problem (see training/loop.py) whose model is linear in some matrices.

    linear: LAYER.MATRIX names; the weights at the start are kept among the frozen ones.
    """

    recall: RecallProblem
    linear: tuple[str, ...]

    def __post_init__(self) -> None:
        known = matrices(self.recall.config)
        for matrix in self.linear:
            if matrix not in known:
                raise ValueError(f"linear names {matrix!r}; learned are {' '.join(known)}")

    def init(self, key: PRNGKeyArray) -> tuple[Weights, Weights]:
        """Trained weights at the start; frozen ones, `rest`, and a copy of the start, `start`."""
        params, frozen = self.recall.init(key)
        return params, {"rest": frozen, "start": jax.tree.map(jnp.copy, params)}

    def given(self, values: Mapping[str, Array]) -> "LinearisedProblem":
        """The same problem with other numbers, traced; see RecallProblem.given."""
        return dataclasses.replace(self, recall=self.recall.given(values))

    def loss(
        self, params: Weights, frozen: Weights, key: PRNGKeyArray, shard: Shard
    ) -> Float[Array, ""]:
        """Cross-entropy in nats on a fresh noisy batch, the one the full model would see."""
        problem = self.recall
        batch = shard(recall.sample(problem.task, key, batch_size=problem.batch_size))
        log_p = jax.nn.log_softmax(self.logits(params, frozen, batch), axis=-1)
        labels = batch.labels[:, :, None]
        return -recall.mean(jnp.take_along_axis(log_p, labels, axis=-1)[:, :, 0], batch)

    def logits(
        self, params: Weights, frozen: Weights, batch: Batch
    ) -> Float[Array, "batch scored vocab"]:
        """Logits of the partly linear model at the scored positions."""
        config = self.recall.config

        def forward(linear: Weights) -> Array:
            return scored_logits(config, linear, frozen["rest"], batch)

        if not self.linear:
            return forward(params)
        base = select(params, frozen["start"], self.linear)
        moved = jax.tree.map(lambda p, b: p - b, params, base)
        values, change = jax.jvp(forward, (base,), (moved,))
        return values + change


def scored_logits(
    config: TransformerConfig, params: Weights, frozen: Weights, batch: Batch
) -> Float[Array, "batch scored vocab"]:
    """Logits of the Transformer itself at the scored positions."""
    weights = transformer.combine(params, frozen)
    return network.run(config, weights, batch.tokens, batch.positions).logits


def select(params: Weights, start: Weights, names: Sequence[str]) -> Weights:
    """params with the named matrices taken from start."""

    def choose(path: tuple, here: Array, there: Array) -> Array:
        return there if matrix_name(path) in names else here

    return jax.tree_util.tree_map_with_path(choose, params, start)


def matrix_name(path: tuple) -> str:
    """LAYER.MATRIX of a leaf of the trained weights, its last two keys."""
    keys = [str(getattr(entry, "key", getattr(entry, "idx", entry))) for entry in path]
    return ".".join(keys[-2:])


def measure(problem: LinearisedProblem, *, batch_size: int) -> Measure:
    """The Measure of p_correct, p_noise, accuracy and loss (nats) on clean sequences.

    The problem that it is called with is not read: `problem` is measured.
    """

    def of(
        _problem: LinearisedProblem, params: Weights, frozen: Weights, key: PRNGKeyArray
    ) -> Mapping[Name, Array]:
        task = problem.recall.task
        batch = recall.sample(task, key, batch_size=batch_size, alpha=0.0)
        found = predictions(task, problem.logits(params, frozen, batch), batch)
        return {name(metric): recall.mean(value, batch) for metric, value in found.items()}

    return of


def part_kernels(
    task: Task,
    config: TransformerConfig,
    params: Weights,
    frozen: Weights,
    batch: Batch,
    key: PRNGKeyArray,
    *,
    draws: int = 8,
) -> Mapping[str, Float[Array, "n n"]]:
    """Kernel [n, n] of each matrix between n sequences, at the last scored position of each.

        mean_k J_k(x) . J_k(x')  =  E_e (sum_k e_k J_k(x)) . (sum_l e_l J_l(x')) / V

    J_k the gradient of logit k of V, e random signs over classes: e_k e_l averages to 1{k = l}.
    One gradient of e . logits per sequence and draw instead of V of them; the error falls as
    1/sqrt(draws). In the limit of a wide model the kernel is that mean times the identity. Memory:
    n times the weights.
    """
    last = jnp.argmax(batch.weights * (1 + batch.positions), axis=1)

    def one(signs: Array, params: Weights, sequence: Batch, slot: Array) -> Array:
        alone = jax.tree.map(lambda x: x[None], sequence._replace(dropped=jnp.int32(0)))
        logits = scored_logits(config, params, frozen, alone)[0]
        return jnp.sum(jnp.take(logits, slot, axis=0) * signs)

    def gram(key: PRNGKeyArray) -> Weights:
        signs = jax.random.rademacher(key, (task.vocab_size,), jnp.float32)
        axes = jax.tree.map(lambda _: 0, batch)._replace(dropped=None)
        jacobian = jax.vmap(jax.grad(one, argnums=1), in_axes=(None, None, axes, 0))(
            signs, params, batch, last
        )

        def products(rows: Array) -> Array:
            flat = rows.reshape(rows.shape[0], -1)
            return flat @ flat.T / task.vocab_size

        return jax.tree.map(products, jacobian)

    total = jax.lax.map(gram, jax.random.split(key, draws))
    leaves, _ = jax.tree_util.tree_flatten_with_path(total)
    return {matrix_name(path): jnp.mean(value, axis=0) for path, value in leaves}
