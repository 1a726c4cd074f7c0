"""Gradient flow of the associative memory whose facts have frequencies and share a feature.

Setting. N facts, fact i drawn with frequency pi_i; its input is

    E[i] = sqrt(1 - r) e_i + sqrt(r) e_0,   e_0, ..., e_N orthonormal,

so r is the overlap of any two inputs. The target is class i with probability 1 - alpha and
noise token m with probability alpha_m (sum alpha), the loss the cross-entropy averaged over
pi, W = 0 at t = 0. With P the softmax, R = P* - P the residual and z_i the logits of input i,

    z_i' = (1 - r) pi_i R_i + r S,   S = sum_j pi_j R_j.                               (flow)

Time t is learning rate times number of steps.

r = 0 (exact). Rows do not see each other: row i is a row of `theory.memory_flow` with N
inputs at time N pi_i t, so one curve gives every fact (`independent_logits`).

r > 0 (exact up to interpolation). z_ik off the diagonal depends on i and on k and is no sum
of a function of each, so three numbers per row and a shared vector do not close the
equations. What does: facts of equal frequency are exchangeable, and the logits are smooth
functions of log pi. Hence three functions,

    z(p, q)  logit of a class of frequency q for an input of frequency p,
    a(p)     correct logit,          c_m(p)  logit of noise token m,

kept at n Chebyshev nodes in log pi; sums over facts become weighted sums over the nodes. A
fact's own class is not among its other classes, which subtracts z(p, p) once:

    Z(p)   = sum_k e^z(p, pi_k) - e^z(p, p) + e^a(p) + sum_m e^c_m(p)
    S(q)   = q (1 - alpha - e^a(q) / Z(q) + e^z(q, q) / Z(q)) - sum_j pi_j e^z(pi_j, q) / Z(pi_j)
    S_m    = sum_j pi_j (alpha_m - e^c_m(pi_j) / Z(pi_j))

n (n + 2) equations for any N; where there are no more than n different frequencies these are
the nodes and nothing is interpolated. The error falls geometrically with n: N = 64, Zipf,
r = .5: 3e-5, 1e-7, 6e-9 at n = 24, 40, 48. As many as `nodes` gives leave it below 1e-8.

Cost: proportional to t (an explicit method whose step is bounded by the relaxation of the
shared logits, rate about r / 4): half a second to t = 1e4 at N = 64.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num
from scipy.integrate import solve_ivp

from truncated_weights.theory import checks, memory_flow

# Tolerances of the integration; at the edge of stability it errs by 100 times as much.
RELATIVE, ABSOLUTE = 1e-11, 1e-12
# Nodes per unit of log frequency that leave an interpolation error below 1e-8.
DENSITY, FEWEST = 11.0, 10


class Facts(NamedTuple):
    """A validated memory.

    Attributes:
      frequencies: pi, summing to one.
      noise: alpha_m of every noise token.
      shared: r.

    """

    frequencies: Float[np.ndarray, " facts"]
    noise: Float[np.ndarray, " tokens"]
    shared: float

    @property
    def alpha(self) -> float:
        """Probability of any noise."""
        return float(self.noise.sum())


class Nodes(NamedTuple):
    """Where the three functions are kept.

    Attributes:
      frequencies: of the nodes.
      interpolation: values at the facts from values at the nodes.

    """

    frequencies: Float[np.ndarray, " nodes"]
    interpolation: Float[np.ndarray, "facts nodes"]


def facts(
    frequencies: Num[np.ndarray, " facts"] | Sequence,
    noise: float | Num[np.ndarray, " tokens"] | Sequence,
    shared: float = 0.0,
) -> Facts:
    """Check the arguments of every function here.

    Args:
      frequencies: of the facts, at least two, positive, summing to one.
      noise: alpha, or one probability per noise token.
      shared: r, in [0, 1).

    Raises:
      ValueError: naming the argument and what is wrong with it.

    """
    law = checks.frequencies("frequencies", frequencies)
    tokens = np.atleast_1d(checks.array("noise", noise))
    if tokens.ndim != 1 or not np.all(tokens > 0.0):
        raise ValueError("noise must be a probability, or positive ones in one dimension")
    checks.open_fraction("noise", tokens.sum())
    return Facts(law, tokens, checks.below_one("shared", shared))


def zipf(num_facts: int, exponent: float = 1.0) -> Float[np.ndarray, " facts"]:
    """Frequencies proportional to rank^-exponent, the most frequent first."""
    ranks = np.arange(1, checks.at_least("num_facts", num_facts, 2) + 1)
    law = ranks ** -checks.within("exponent", exponent, 0.0)
    return law / law.sum()


def independent_logits(
    memory: Facts, times: Float[np.ndarray, " n"] | Sequence
) -> Float[np.ndarray, "n facts 3"]:
    """Correct, other and noise logit of every fact, r = 0 and one noise token: exact to 1e-8.

    Row i of N facts at time t is the uniform memory of N inputs at time N pi_i t, because its
    rate is pi_i instead of 1/N and no other row enters.

    Raises:
      ValueError: if shared is not 0 or there are several noise tokens.

    """
    if memory.shared != 0.0 or memory.noise.size != 1:
        raise ValueError("rows are independent only for shared = 0 and one noise token")
    times, size = checks.nonnegative_times(times), memory.frequencies.size
    clock = np.outer(times, size * memory.frequencies)
    values = memory_flow.logits(size, memory.alpha, clock.ravel())
    return np.stack(values, axis=-1).reshape(times.size, size, 3)


def logits(
    memory: Facts, times: Float[np.ndarray, " n"] | Sequence, *, num_nodes: int | None = None
) -> Float[np.ndarray, "n facts classes"]:
    """Logits of every class (the facts', then the noise tokens) for every fact.

    Args:
      memory: from `facts`.
      times: learning rate times steps, any order.
      num_nodes: n; None takes as many as leave an error of 1e-8.

    """
    grid = nodes(memory.frequencies, num_nodes)
    size, (rows, count) = memory.noise.size, grid.interpolation.shape
    result = []
    for state in node_states(memory, grid, times):
        other, correct, noise = _unpack(state, count, size)
        values = grid.interpolation @ other @ grid.interpolation.T
        values[np.arange(rows), np.arange(rows)] = grid.interpolation @ correct
        result.append(np.concatenate([values, grid.interpolation @ noise], axis=1))
    return np.array(result)


def weights(
    memory: Facts, values: Float[np.ndarray, "facts classes"] | Sequence
) -> Float[np.ndarray, "inputs classes"]:
    """W, row 0 read by the shared feature, row 1 + i by fact i's own.

    Along the flow w_0 = sqrt(r / (1 - r)) sum_i w_i, so that sum_i z_i gives w_0 back.
    """
    r, size = memory.shared, memory.frequencies.size
    values = checks.numbers("values", values, size, None)
    shared = np.sqrt(r) * values.sum(axis=0) / (1.0 - r + size * r)
    own = (values - np.sqrt(r) * shared) / np.sqrt(1.0 - r)
    return np.concatenate([shared[None], own])


def read(
    memory: Facts, matrix: Float[np.ndarray, "inputs classes"] | Sequence
) -> Float[np.ndarray, "facts classes"]:
    """Logits of a matrix W: the inverse of `weights`, for any matrix, truncated ones too."""
    matrix = checks.numbers("matrix", matrix, memory.frequencies.size + 1, None)
    return np.sqrt(1.0 - memory.shared) * matrix[1:] + np.sqrt(memory.shared) * matrix[0]


def nodes(
    frequencies: Float[np.ndarray, " facts"] | Sequence, num_nodes: int | None = None
) -> Nodes:
    """The different frequencies where they are few, else Chebyshev points in log pi."""
    frequencies = checks.positives("frequencies", frequencies, None)
    checks.at_least("number of frequencies", frequencies.size, 1)
    if num_nodes is not None:
        num_nodes = checks.at_least("num_nodes", num_nodes, 2)
    logs = np.log(frequencies)
    distinct, kind = np.unique(frequencies, return_inverse=True)
    low, high = logs.min(), logs.max()
    count = num_nodes or int(np.ceil(FEWEST + DENSITY * (high - low)))
    if distinct.size <= count:
        return Nodes(distinct, np.eye(distinct.size)[kind])
    angle = (np.arange(count) + 0.5) * np.pi / count
    points = (low + high) / 2 + np.cos(angle) * (high - low) / 2
    # Barycentric Lagrange interpolation, stable for any number of Chebyshev points.
    distance = logs[:, None] - points
    exact = np.abs(distance) < 1e-14
    ratio = (-1.0) ** np.arange(count) * np.sin(angle) / np.where(exact, 1.0, distance)
    matrix = ratio / ratio.sum(axis=1, keepdims=True)
    hit = exact.any(axis=1)
    matrix[hit] = exact[hit]
    return Nodes(np.exp(points), matrix)


def node_states(
    memory: Facts, grid: Nodes, times: Float[np.ndarray, " n"] | Sequence
) -> Float[np.ndarray, "n state"]:
    """z(p, q), a(p), c_m(p) at the nodes, flattened, at each time."""
    times = checks.nonnegative_times(times)
    size = grid.frequencies.size * (grid.frequencies.size + 1 + memory.noise.size)
    moments, where = np.unique(times, return_inverse=True)
    if times.size == 0 or moments[-1] == 0.0:
        return np.zeros((times.size, size))
    solution = solve_ivp(
        _Flow(memory, grid),
        (0.0, moments[-1]),
        np.zeros(size),
        method="DOP853",
        t_eval=moments,
        rtol=RELATIVE,
        atol=ABSOLUTE,
    )
    if not solution.success:
        raise RuntimeError(f"the flow could not be integrated: {solution.message}")
    return solution.y.T[where]


class _Flow:
    """The right side of (flow) at the nodes.

    It is asked tens of thousands of times: what no state changes is worked out once, and the
    exponentials of every state are written to one place.
    """

    def __init__(self, memory: Facts, grid: Nodes) -> None:
        self.memory, self.frequencies = memory, grid.frequencies
        self.copies = grid.interpolation.sum(axis=0)
        self.mass = self.copies * grid.frequencies
        self.own_rate = (1.0 - memory.shared) * grid.frequencies
        self.target = 1.0 - memory.alpha
        count, noises = grid.frequencies.size, memory.noise.size
        self.exponentials = np.empty(count * (count + 1 + noises))
        self.other, self.correct, self.noise = _unpack(self.exponentials, count, noises)

    def __call__(self, _: float, state: Float[np.ndarray, " state"]) -> np.ndarray:
        np.exp(state, out=self.exponentials)
        shared, itself = self.memory.shared, np.diagonal(self.other)
        total = self.other @ self.copies - itself + self.correct + self.noise.sum(axis=1)
        other, noise = self.other / total[:, None], self.noise / total[:, None]
        missing = self.target - self.correct / total
        noise_missing = self.memory.noise - noise
        pull = shared * (self.frequencies * (missing + itself / total) - self.mass @ other)
        noise_pull = shared * (self.mass @ noise_missing)
        return np.concatenate(
            [
                (pull - self.own_rate[:, None] * other).ravel(),
                self.own_rate * missing + pull,
                (self.own_rate[:, None] * noise_missing + noise_pull).ravel(),
            ]
        )


def _unpack(
    state: Float[np.ndarray, " state"], num_nodes: int, num_noise: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    square = num_nodes * num_nodes
    return (
        state[:square].reshape(num_nodes, num_nodes),
        state[square : square + num_nodes],
        state[square + num_nodes :].reshape(num_nodes, num_noise),
    )
