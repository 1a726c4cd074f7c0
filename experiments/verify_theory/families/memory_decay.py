"""The memory under weight decay: descent to rest against the stationary equations."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from truncated_weights.experiments.verify_theory.effort import Effort, Outcome, at
from truncated_weights.experiments.verify_theory.table import Row, worst
from truncated_weights.theory import memory_decay
from truncated_weights.toy import memory
from truncated_weights.training import records
from truncated_weights.training.records import Records

FAMILY = "decay"
SIZES = (2, 8, 32)
ALPHAS = np.array([0.05, 0.15, 0.3, 0.45])
# N times the decay. Steps of 2 N then forget the start like exp(-2 N decay * steps).
STRENGTHS = np.array([0.02, 0.1, 0.5])
STEPS = 1500
# (N, alpha) whose order changes, and N times the decays between which it does.
CHANGES = {(8, 0.2): (0.03, 0.12), (2, 0.7): (0.01, 0.03), (32, 0.1): (0.06, 0.2)}
FINE = 9


def simulate(effort: Effort, seed: int) -> Records:
    """Logits at rest; nothing here is random or depends on the effort."""
    del effort, seed
    rest = {
        records.name("logit", "input", "class", size=size): _rest(size, ALPHAS, STRENGTHS)
        for size in SIZES
    }
    changes = {}
    for (size, alpha), ends in CHANGES.items():
        (found,) = _rest(size, np.array([alpha]), np.geomspace(*ends, FINE))
        changes[records.name("logit", "place", "input", "class", size=size, alpha=alpha)] = found
    return Records(
        {
            "decay": records.labelled(rest, {"alpha": ALPHAS, "strength": STRENGTHS}),
            "decay_changes": records.labelled(changes, {}),
        }
    )


def judge(effort: Effort, found: Records) -> Outcome:
    """Rows of the family."""
    del effort
    rows: list[Row] = []
    for size in SIZES:
        rest = _of_size(size, at(found.decay, size=size).logit)
        signal, noise = _values(rest)
        predicted = [memory_decay.singular_values(size, a, STRENGTHS / size) for a in ALPHAS]
        logits = [memory_decay.stationary_logits(size, a, STRENGTHS / size) for a in ALPHAS]
        setting = f"N={size}, {ALPHAS.size} alpha, {STRENGTHS.size} decays"
        table = memory_decay.phase_diagram(np.array([size]), ALPHAS, STRENGTHS / size)[0]
        rows += [
            worst(FAMILY, f"{name} at rest", setting, np.array(value), measured, tolerance=1e-6)
            for name, value, measured in (
                ("signal singular value", [p.signal for p in predicted], signal),
                ("noise singular value", [p.noise for p in predicted], noise),
                ("correct logit", [z.correct for z in logits], rest[:, :, 0, 0]),
                ("other logit", [z.other for z in logits], rest[:, :, 0, 1]),
                ("log of noise over signal", table, np.log(noise / signal)),
            )
        ]
    for (size, alpha), ends in CHANGES.items():
        signal, noise = _values(
            _of_size(size, at(found.decay_changes, size=size, alpha=alpha).logit)
        )
        gap, strengths = np.log(noise / signal), np.log(np.geomspace(*ends, FINE))
        # The log decay as a polynomial of the gap, at gap zero.
        measured = float(np.exp(np.polyfit(gap, strengths, FINE - 3)[-1]) / size)
        change = memory_decay.change_of_order(size, alpha)
        rows.append(
            Row(FAMILY, "decay at which the order changes", f"N={size}, alpha={alpha:g}",
                change.decay, measured, tolerance=1e-4 * measured, note="interpolated")
        )  # fmt: skip
        if size == 2:
            rows.append(
                Row(FAMILY, "same, by the formula for large s*", f"N={size}, alpha={alpha:g}",
                    change.asymptotic, measured, tolerance=0.015 * measured,
                    note="s* = 5.8")
            )  # fmt: skip
    return Outcome(rows)


def _of_size(size: int, logits: xr.DataArray) -> np.ndarray:
    """Logits [..., N, N + 1], without what the block is filled up with."""
    return logits[..., :size, : size + 1].values


def _values(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signal and noise singular values of logits [..., N, N + 1]."""
    size = logits.shape[-2]
    values = np.linalg.svd(logits, compute_uv=False)
    # The noise component is the only one that reads the mean input.
    mean = np.full(size, size**-0.5)
    noise = np.linalg.norm(np.einsum("i,...ik->...k", mean, logits), axis=-1)
    return (values.sum(axis=-1) - noise) / (size - 1), noise


def _rest(size: int, alphas: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """Logits [alphas, strengths, N, N + 1] after descent with decay, in float64."""
    with jax.enable_x64(True):
        params, frozen = memory.Memory(size, 0.5).init(jax.random.key(0))
        own = jnp.eye(size, size + 1)
        noise = jnp.zeros((size, size + 1)).at[:, -1].set(1.0)
        # The weakest decay forgets the start slowest.
        steps = max(STEPS, int(30 / strengths.min()))

        def train(alpha: jax.Array, strength: jax.Array) -> jax.Array:
            def loss(params: memory.Weights) -> jax.Array:
                log_p = jax.nn.log_softmax(memory.logits({**frozen, **params}), axis=-1)
                target = (1 - alpha) * own + alpha * noise
                decay = 0.5 * strength / size * jnp.sum(params["fc_in"] ** 2)
                return decay - jnp.sum(target * log_p) / size

            def one(_: int, params: memory.Weights) -> memory.Weights:
                gradient = jax.grad(loss)(params)
                return jax.tree.map(lambda p, g: p - size * g, params, gradient)

            return memory.logits({**frozen, **jax.lax.fori_loop(0, steps, one, params)})

        over = jax.vmap(jax.vmap(train, in_axes=(None, 0)), in_axes=(0, None))
        return np.asarray(jax.jit(over)(jnp.asarray(alphas), jnp.asarray(strengths)))
