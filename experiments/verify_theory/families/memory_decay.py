"""The memory under weight decay: descent to rest against the stationary equations."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.verify_theory.effort import Effort, Outcome
from experiments.verify_theory.table import Row
from theory import memory_decay
from toy import memory

FAMILY = "decay"
SIZES = (2, 8, 32)
ALPHAS = np.array([0.05, 0.15, 0.3, 0.45])
# N times the decay. Steps of 2 N then forget the start like exp(-2 N decay * steps).
STRENGTHS = np.array([0.02, 0.1, 0.5])
STEPS = 1500


def verify(effort: Effort, seed: int) -> Outcome:
    """Rows and arrays of the family; nothing here is random or depends on the effort."""
    del effort, seed
    rows: list[Row] = []
    arrays = {}
    for size in SIZES:
        logits = _rest(size)
        values = np.linalg.svd(logits, compute_uv=False)
        # The noise component is the only one that reads the mean input.
        mean = np.full(size, size**-0.5)
        noise = np.linalg.norm(np.einsum("i,...ik->...k", mean, logits), axis=-1)
        signal = (values.sum(axis=-1) - noise) / (size - 1)
        predicted = [memory_decay.singular_values(size, a, STRENGTHS / size) for a in ALPHAS]
        exact = {
            name: np.array([getattr(p, name) for p in predicted]) for name in ("signal", "noise")
        }
        for name, found in (("signal", signal), ("noise", noise)):
            index = np.unravel_index(np.argmax(np.abs(found / exact[name] - 1)), found.shape)
            rows.append(
                Row(
                    FAMILY,
                    f"{name} singular value at rest",
                    f"N={size}, {ALPHAS.size} alpha, {STRENGTHS.size} decays",
                    float(exact[name][index]),
                    float(found[index]),
                    tolerance=1e-6,
                    note=f"worst of {found.size}",
                )
            )
        table = memory_decay.phase_diagram(np.array([size]), ALPHAS, STRENGTHS / size)[0]
        rows.append(
            Row(
                FAMILY,
                "settings with the noise on top",
                f"N={size}",
                float(np.sum(table > 0)),
                float(
                    np.sum((noise > signal) & (table > 0)) - np.sum((noise > signal) & (table < 0))
                ),
                tolerance=0.0,
                note=f"of {table.size}, each in its place",
            )
        )
        arrays[f"decay/{size}/ratio"] = noise / signal
    return Outcome(rows, arrays)


def _rest(size: int) -> np.ndarray:
    """Logits [alphas, strengths, N, N + 1] after descent with decay, in float64."""
    with jax.enable_x64(True):
        params, frozen = memory.Memory(size, 0.5).init(jax.random.key(0))
        own = jnp.eye(size, size + 1)
        noise = jnp.zeros((size, size + 1)).at[:, -1].set(1.0)

        def train(alpha: jax.Array, strength: jax.Array) -> jax.Array:
            def loss(params: memory.Weights) -> jax.Array:
                log_p = jax.nn.log_softmax(memory.logits({**frozen, **params}), axis=-1)
                target = (1 - alpha) * own + alpha * noise
                decay = 0.5 * strength / size * jnp.sum(params["fc_in"] ** 2)
                return decay - jnp.sum(target * log_p) / size

            def one(_: int, params: memory.Weights) -> memory.Weights:
                gradient = jax.grad(loss)(params)
                return jax.tree.map(lambda p, g: p - size * g, params, gradient)

            return memory.logits({**frozen, **jax.lax.fori_loop(0, STEPS, one, params)})

        over = jax.vmap(jax.vmap(train, in_axes=(None, 0)), in_axes=(0, None))
        return np.asarray(jax.jit(over)(jnp.asarray(ALPHAS), jnp.asarray(STRENGTHS)))
