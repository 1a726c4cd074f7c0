"""The flow of the associative memory in 30 digits, by a method of its own.

Gauss collocation with ten nodes in log(1 + t), on the three logits themselves
(no conservation law, no change of variables), Newton's method at each step.
Far times take it 15 seconds each, so its results are kept in reference_flow.json;
`python tests/theory/reference_flow.py` writes that file again.
"""

import json
import pathlib

import mpmath as mp

RECORD = pathlib.Path(__file__).with_suffix(".json")
CASES = [
    (8, "0.3", "1"),
    (8, "0.3", "1e3"),
    (8, "0.3", "1e8"),
    (2, "0.3", "1e3"),
    (2, "0.9", "1e8"),
    (3, "0.999", "1e4"),
    (64, "0.5", "1e8"),
    (64, "0.001", "1e5"),
    (256, "0.3", "1e6"),
]

DIGITS = 30
NODES = 10
STEP = mp.mpf(1) / 4


def logits(num_inputs: int, alpha: str, time: str) -> list[mp.mpf]:
    """The logits (correct, other, noise) at one time."""
    with mp.workdps(DIGITS):
        n, rate = mp.mpf(num_inputs), mp.mpf(alpha)
        nodes, integration, weights = _collocation()
        end = mp.log1p(mp.mpf(time))
        steps = int(mp.ceil(end / STEP))
        h = end / steps
        state = [mp.mpf(0)] * 3
        for i in range(steps):
            speeds = [mp.exp(i * h + c * h) / n for c in nodes]
            slopes = _solve(n, rate, state, speeds, integration, h)
            for k in range(3):
                state[k] += h * mp.fsum(
                    w * slope[k] for w, slope in zip(weights, slopes, strict=True)
                )
        return state


def _collocation():
    """Nodes in (0, 1), the matrix of integrals up to each node, and the final weights."""
    polynomial = mp.taylor(lambda x: mp.legendre(NODES, 2 * x - 1), 0, NODES)
    nodes = sorted(mp.polyroots(polynomial[::-1], maxsteps=200, extraprec=200), key=mp.re)
    nodes = [mp.re(x) for x in nodes]
    powers = mp.matrix(NODES, NODES)
    for i in range(NODES):
        for j in range(NODES):
            powers[i, j] = nodes[i] ** j
    inverse = powers**-1
    antiderivative = lambda x: mp.matrix([[x ** (j + 1) / (j + 1) for j in range(NODES)]]) * inverse  # noqa: E731
    rows = [antiderivative(x) for x in nodes]
    last = antiderivative(mp.mpf(1))
    return nodes, [[r[j] for j in range(NODES)] for r in rows], [last[j] for j in range(NODES)]


def _field(n, alpha, state):
    a, b, c = (mp.exp(x) for x in state)
    total = a + (n - 1) * b + c
    p = [a / total, b / total, c / total]
    velocity = [1 - alpha - p[0], -p[1], alpha - p[2]]
    copies = [1, n - 1, 1]
    jacobian = [
        [p[i] * copies[j] * p[j] - (p[i] if i == j else 0) for j in range(3)] for i in range(3)
    ]
    return velocity, jacobian


def _solve(n, alpha, state, speeds, integration, h):
    slopes = [[speed * v for v in _field(n, alpha, state)[0]] for speed in speeds]
    for _ in range(50):
        system, residual = mp.matrix(3 * NODES, 3 * NODES), mp.matrix(3 * NODES, 1)
        for i, speed in enumerate(speeds):
            here = [
                state[k] + h * mp.fsum(integration[i][j] * slopes[j][k] for j in range(NODES))
                for k in range(3)
            ]
            velocity, jacobian = _field(n, alpha, here)
            for k in range(3):
                residual[3 * i + k] = speed * velocity[k] - slopes[i][k]
                for j in range(NODES):
                    for m in range(3):
                        system[3 * i + k, 3 * j + m] = (
                            -speed * h * integration[i][j] * jacobian[k][m]
                        )
                system[3 * i + k, 3 * i + k] += 1
        change = mp.lu_solve(system, residual)
        for i in range(NODES):
            for k in range(3):
                slopes[i][k] += change[3 * i + k]
        if max(abs(x) for x in change) < mp.mpf(10) ** (5 - DIGITS) * max(1, max(speeds) * n):
            return slopes
    raise AssertionError("Newton's method did not converge")


if __name__ == "__main__":
    rows = [
        {
            "num_inputs": n,
            "alpha": a,
            "time": t,
            "logits": [mp.nstr(x, 20) for x in logits(n, a, t)],
        }
        for n, a, t in CASES
    ]
    RECORD.write_text(json.dumps(rows, indent=1) + "\n")
