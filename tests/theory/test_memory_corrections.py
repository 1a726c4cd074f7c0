import numpy as np
import pytest

from truncated_weights.theory import memory_corrections, memory_flow


def descend(n, alpha, step, steps, inputs=None, classes=None):
    """Plain gradient descent on W, seen through the kernels of the embeddings."""
    target = np.zeros((n, n + 1))
    target[np.arange(n), np.arange(n)] = 1 - alpha
    target[:, n] = alpha
    left = np.eye(n) if inputs is None else inputs @ inputs.T
    right = np.eye(n + 1) if classes is None else classes @ classes.T
    logits = np.zeros((n, n + 1))
    for _ in range(steps):
        weights = np.exp(logits - logits.max(1, keepdims=True))
        residual = target - weights / weights.sum(1, keepdims=True)
        logits = logits + step / n * left @ residual @ right
    return logits


@pytest.mark.parametrize("n", [2, 3, 7])
def test_gradient_descent_leaves_the_flow_as_predicted(n):
    time = np.array([24.0])
    flow = np.concatenate(memory_flow.logits(n, 0.3, time))
    slope = np.concatenate(memory_corrections.discretisation_slopes(n, 0.3, time))
    misses = []
    for step in (0.5, 0.25):
        logits = descend(n, 0.3, step, round(24 / step))[0, [0, 1, n]]
        misses.append(np.abs(logits - flow - step * slope).max())
    assert misses[0] < 0.02 * 0.5 * np.abs(slope).max()
    # What first order leaves out is of second order.
    assert 3.5 < misses[0] / misses[1] < 4.5


@pytest.mark.parametrize(("n", "alpha", "time"), [(2, 0.3, 20.0), (3, 0.6, 20.0), (5, 0.3, 50.0)])
def test_random_embeddings_stray_by_the_predicted_amount(n, alpha, time):
    generator = np.random.default_rng(0)
    d_model, draws, step = 4000, 400, 0.5
    predicted = memory_corrections.random_embedding_coefficient(n, alpha, np.array([time]))[0]
    centre = descend(n, alpha, step, round(time / step))
    squares = []
    for _ in range(draws):
        inputs = generator.normal(size=(n, d_model)) / np.sqrt(d_model)
        classes = generator.normal(size=(n + 1, d_model)) / np.sqrt(d_model)
        logits = descend(n, alpha, step, round(time / step), inputs, classes)
        squares.append(d_model * np.sum((logits - centre) ** 2))
    error = np.std(squares) / np.sqrt(draws)
    assert error < 0.06 * predicted
    # Finite steps and finite d add about a percent of their own.
    assert abs(np.mean(squares) - predicted) < 3.5 * error + 0.02 * predicted


def test_corrections_start_at_zero():
    zero = np.array([0.0])
    assert memory_corrections.random_embedding_coefficient(4, 0.3, zero)[0] == 0
    assert not np.any(np.concatenate(memory_corrections.discretisation_slopes(4, 0.3, zero)))


def test_early_deviation_is_that_of_the_kernels_alone():
    # As t -> 0, Z_d - Z = (t/N) (A R + R B) with R = P* - u, whose mean square
    # is a sum over entries that needs no flow.
    n, alpha, time = 5, 0.3, 1e-3
    residual = np.full((n, n + 1), -1 / (n + 1))
    residual[np.arange(n), np.arange(n)] += 1 - alpha
    residual[:, n] += alpha
    total = (n + 1) * np.sum(residual**2) + (n + 2) * np.sum(residual**2)
    got = memory_corrections.random_embedding_coefficient(n, alpha, np.array([time]))[0]
    assert got == pytest.approx((time / n) ** 2 * total, rel=1e-3)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="alpha"):
        memory_corrections.random_embedding_coefficient(4, 0.0, np.array([1.0]))
    with pytest.raises(ValueError, match="times"):
        memory_corrections.discretisation_slopes(4, 0.3, np.array([-1.0]))
