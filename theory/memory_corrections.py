"""How far finite steps and random embeddings stray from the flow, to leading order.

Both are perturbations of the flow of `theory.memory_flow`, carried along by its
linearisation.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from truncated_weights.theory import checks, log_time, memory_flow

Vector = Float[np.ndarray, " n_variables"]

# A row of logits responds to one perturbed kernel entry with at most five
# values: at its own class x, at the other classes j and l the entry names, at
# the remaining ordinary classes, and at the noise class.
OWN, FIRST, SECOND, REST, NOISE = range(5)


def discretisation_slopes(
    num_inputs: int, alpha: float, times: Float[np.ndarray, " n"] | Sequence
) -> memory_flow.Logits:
    """First-order error of gradient descent: (logits after t / eta steps - flow) / eta.

    Euler steps of size eta follow, to second order, the flow with velocity
    f - (eta / 2) J f, where f is the velocity and J its derivative. Hence the
    error is eta times the solution of

        d delta/dt = J delta - (1/2) J f,   delta(0) = 0.

    Regime: eta well below 4 N, where a step neither overshoots nor oscillates.

    Returns:
      correct [n], other [n], noise [n], in logits per unit of step size.

    Raises:
      ValueError: naming the argument that is out of its range.

    """
    num_inputs = checks.at_least("num_inputs", num_inputs, 2)
    alpha = checks.open_fraction("alpha", alpha)
    copies = np.array([1.0, num_inputs - 1.0, 1.0])
    target = np.array([1.0 - alpha, 0.0, alpha])

    def velocity(state: Vector) -> Vector:
        values, error = state[:3], state[3:]
        p = _softmax(values, copies)
        field = (target - p) / num_inputs
        return np.concatenate([field, _hessian(p, copies, error - 0.5 * field) / -num_inputs])

    states = log_time.integrate(
        velocity, np.zeros(6), checks.nonnegative_times(times), unit=float(num_inputs)
    )
    return memory_flow.Logits(*states[:, 3:].T)


def random_embedding_coefficient(
    num_inputs: int, alpha: float, times: Float[np.ndarray, " n"] | Sequence
) -> Float[np.ndarray, " n"]:
    """Coefficient C(t) of E || Z_d - Z ||_F^2 = C(t) / d + O(d^(-3/2)).

    Z_d are the logits [N, N + 1] of a memory whose embeddings are Gaussian rows
    of variance 1 / d instead of orthonormal. Its flow is
    dZ/dt = (1/N) (I + A) R (I + B) with R = P* - P, I + A and I + B the Gram
    matrices of inputs and classes: entries of A and B are uncorrelated, of mean
    zero and variance 1/d off and 2/d on the diagonal. To first order

        d delta_i/dt = (1/N) (sum_j A_ij R_j + (R B)_i - (diag p_i - p_i p_i^T) delta_i)

    for each row i, so C sums the squared responses of a row to unit entries
    A_ii, A_ij, B_kk, B_kl (the off-diagonal ones act twice, through both their
    places), times their variances and numbers, times N rows.

    Regime: fixed N and t, d large against N and against the square of the
    logits reached; the root-mean-square deviation falls like d^(-1/2).
    """
    num_inputs = checks.at_least("num_inputs", num_inputs, 2)
    alpha = checks.open_fraction("alpha", alpha)
    others = num_inputs - 1
    number = np.array(
        # A_xx, A_xj, B_xx, B_jj, B_cc, B_xj, B_xc, B_jl, B_jc, with c the noise class
        [1, others, 1, others, 1, others, 1, others * (others - 1) / 2, others],
        dtype=np.float64,
    )
    variance = np.array([2.0, 1.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0])
    copies = np.array([1.0, 1.0, min(1.0, num_inputs - 2.0), max(0.0, num_inputs - 3.0), 1.0])
    velocity = _response_velocity(num_inputs, alpha, copies, number.size)
    states = log_time.integrate(
        velocity,
        np.zeros(3 + number.size * 5),
        checks.nonnegative_times(times),
        unit=float(num_inputs),
        tolerance=1e-9,
    )
    responses = states[:, 3:].reshape(-1, number.size, 5)
    return num_inputs * (responses**2 @ copies) @ (number * variance)


def _response_velocity(
    num_inputs: int, alpha: float, copies: Vector, num_sources: int
) -> Callable[[Vector], Vector]:
    target, unit = np.array([1.0 - alpha, 0.0, 0.0, 0.0, alpha]), np.eye(5)

    def velocity(state: Vector) -> Vector:
        values = state[[0, 1, 1, 1, 2]]
        p = _softmax(values, copies)
        residual = target - p
        neighbour = residual[[FIRST, OWN, SECOND, REST, NOISE]]
        sources = np.stack(
            [residual, neighbour]
            + [residual[k] * unit[k] for k in (OWN, FIRST, NOISE)]
            + [
                residual[k] * unit[m] + residual[m] * unit[k]
                for k, m in ((OWN, FIRST), (OWN, NOISE), (FIRST, SECOND), (FIRST, NOISE))
            ]
        )
        responses = state[3:].reshape(num_sources, 5)
        drift = sources - _hessian(p, copies, responses)
        return np.concatenate([residual[[OWN, FIRST, NOISE]], drift.ravel()]) / num_inputs

    return velocity


def _softmax(values: Vector, copies: Vector) -> Vector:
    weights = np.exp(values - values.max())
    return weights / (weights @ copies)


def _hessian(
    p: Vector, copies: Vector, direction: Float[np.ndarray, "*batch n_variables"]
) -> Float[np.ndarray, "*batch n_variables"]:
    return p * (direction - (direction @ (copies * p))[..., None])
