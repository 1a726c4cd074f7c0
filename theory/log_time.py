"""Integration of autonomous flows over many decades of time."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from scipy.integrate import OdeSolution, solve_ivp

from truncated_weights.theory import checks

Vector = Float[np.ndarray, " n_variables"]

# LSODA refuses tolerances close to machine precision; this one leaves global
# errors of about 1e-10 in the flows of this package.
TOLERANCE = 1e-12
# In units of log time. Longer trial steps can leave the region where the
# exponentials of a flow are finite, and nothing slower than this is worth skipping.
LONGEST_STEP = 0.5


def integrate(
    velocity: Callable[[Vector], Vector],
    initial: Vector | Sequence,
    times: Float[np.ndarray, " n"] | Sequence,
    *,
    unit: float,
    tolerance: float = TOLERANCE,
) -> Float[np.ndarray, "n n_variables"]:
    """Solve dy/dt = velocity(y) from y(0) = initial and report y at the given times.

    The variable of integration is log(1 + t / unit): steps grow with t, so 1e8
    costs hardly more than 1e2, and the relaxation that is ever faster than the
    logarithmic clock is left to the implicit half of LSODA. Times may come in
    any order and repeat.
    """
    tolerance = checks.positive("tolerance", tolerance)
    unit, times = checks.positive("unit", unit), checks.nonnegative_times(times)
    initial = checks.numbers("initial", initial, None)
    if times.size == 0:
        return np.empty((0, initial.size))
    # Times that differ by rounding alone may be one on the clock.
    clock, where = np.unique(np.log1p(times / unit), return_inverse=True)
    if clock[-1] == 0.0:
        return np.tile(initial, (times.size, 1))
    solution = _solve(velocity, initial, clock[-1], unit, tolerance, samples=clock)
    return solution.y.T[where]


def trajectory(
    velocity: Callable[[Vector], Vector],
    initial: Vector | Sequence,
    *,
    until: float,
    unit: float,
    tolerance: float = TOLERANCE,
) -> OdeSolution:
    """Like `integrate`, but return the solution as a function of log(1 + t / unit)."""
    tolerance = checks.positive("tolerance", tolerance)
    until, unit = checks.positive("until", until), checks.positive("unit", unit)
    initial = checks.numbers("initial", initial, None)
    return _solve(velocity, initial, np.log1p(until / unit), unit, tolerance).sol


def _solve(  # type: ignore[no-untyped-def]
    velocity: Callable[[Vector], Vector],
    initial: Vector,
    end: float,
    unit: float,
    tolerance: float,
    samples: Float[np.ndarray, " n"] | None = None,
):
    # LSODA is 20 times faster than Radau but, about once in a hundred stiff
    # flows, gives up close to the end.
    for method in ("LSODA", "Radau"):
        with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
            warnings.simplefilter("ignore", UserWarning)
            solution = solve_ivp(
                lambda clock, state: unit * np.exp(clock) * velocity(state),
                (0.0, end),
                initial,
                method=method,
                t_eval=samples,
                dense_output=samples is None,
                max_step=LONGEST_STEP,
                rtol=tolerance,
                atol=tolerance,
            )
        if solution.success and np.all(np.isfinite(solution.y)):
            return solution
    raise RuntimeError(f"the flow could not be integrated: {solution.message}")
