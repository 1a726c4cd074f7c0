import numpy as np
import pytest

from truncated_weights.theory import frequent_memory, frequent_window
from truncated_weights.theory.frequent_window import edge, margins


def memory_of(size, alpha, shared, exponent=1.0):
    return frequent_memory.facts(frequent_memory.zipf(size, exponent), alpha, shared)


def test_margin_and_edge_by_hand():
    z = np.array([[3.0, 1.0, 2.5], [1.0, 1.0, 0.0]])
    np.testing.assert_allclose(margins(z), [0.5, 0.0])
    law = np.array([0.1, 0.6, 0.3])
    # Between .3 (margin 1) and .1 (margin -2): a third of the way in log frequency.
    assert edge(law, np.array([-2.0, 4.0, 1.0])) == pytest.approx(0.3 * (1 / 3) ** (1 / 3))
    assert edge(law, np.array([1.0, 1.0, 1.0])) == 0.0
    assert edge(law, np.array([-1.0, -1.0, -1.0])) == np.inf


@pytest.mark.parametrize("shared", [0.0, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.45, 0.6])
def test_who_is_behind_the_noise_at_the_start(alpha, shared):
    memory = memory_of(30, alpha, shared)
    z = frequent_memory.logits(memory, np.array([1e-4]))[0]
    behind = np.diag(z) < z[:, 30]
    np.testing.assert_array_equal(
        behind, memory.frequencies < frequent_window.start_edge(alpha, shared)
    )


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.45])
@pytest.mark.parametrize("shared", [0.2, 0.5, 0.8])
def test_without_the_shared_row_every_fact_is_known_at_all_times(alpha, shared):
    memory = memory_of(32, alpha, shared)
    for z in frequent_memory.logits(memory, np.geomspace(1, 3000, 12), num_nodes=24):
        matrix = frequent_memory.weights(memory, z)
        matrix[0] = 0
        assert margins(frequent_memory.read(memory, matrix)).min() > 0


def test_window_moves_towards_rare_facts_and_its_facts_are_those_between_the_edges():
    memory = memory_of(40, 0.3, 0.5)
    times = np.array([100.0, 300.0, 1000.0])
    found = frequent_window.edges(memory, times)
    assert np.all(np.diff(np.log(found.full)) < -0.5)
    assert np.all(found.cut < found.full)
    values = frequent_memory.logits(memory, times)
    for z, low, high in zip(values, found.cut, found.full, strict=True):
        between = (memory.frequencies > low) & (memory.frequencies < high)
        np.testing.assert_array_equal(frequent_window.corrected(memory, z), between)
    # Nothing is left to correct once all is known.
    assert not frequent_window.corrected(
        memory, frequent_memory.logits(memory, np.array([1e4]), num_nodes=20)[0]
    ).any()


def test_nothing_to_correct_without_a_shared_feature():
    memory = memory_of(48, 0.3, 0.0)
    for z in frequent_memory.logits(memory, np.array([10.0, 300.0, 3000.0]), num_nodes=24):
        assert margins(z).min() > 0


@pytest.mark.parametrize(("alpha", "shared"), [(0.1, 0.5), (0.3, 0.2), (0.3, 0.5), (0.3, 0.8)])
def test_overtaking_time_is_right_to_a_leading_logarithm(alpha, shared):
    """Boundary of the full memory within 5 % in log frequency, for facts rarer than 1/150."""
    memory = memory_of(100, alpha, shared)
    target = np.array([1 / 150, 1 / 300])
    times = frequent_window.overtaking_time(target, alpha, shared)
    found = [
        edge(memory.frequencies, margins(z))
        for z in frequent_memory.logits(memory, times, num_nodes=22)
    ]
    np.testing.assert_allclose(np.log(found), np.log(target), rtol=0.05)


def test_no_overtaking_at_even_odds():
    times = frequent_window.overtaking_time(np.array([0.1, 0.01]), 0.5, 0.5)
    assert np.all(np.isinf(times))
    assert frequent_window.overtaking_time(np.array([0.9, 0.1]), 0.3, 0.5)[0] == 0


@pytest.mark.parametrize("fraction", [0.5, 0.9])
def test_noise_saturates_when_predicted(fraction):
    errors = []
    for size in (64, 512):
        time = frequent_window.noise_time(size, 0.3, 0.5, fraction)
        z = frequent_memory.logits(memory_of(size, 0.3, 0.5, 0.0), np.array([time]))[0, -1]
        errors.append(np.exp(z[-1]) / np.exp(z).sum() / (fraction * 0.3) - 1)
    # What is neglected, the own rows, is of relative order 1 / (r N).
    assert abs(errors[0]) < 0.04
    assert 1 / 12 < errors[1] / errors[0] < 1 / 4


def test_top_component_is_the_noise_read_by_the_shared_feature():
    memory = memory_of(64, 0.3, 0.5)
    early, late = frequent_memory.logits(memory, np.array([10.0, 3000.0]), num_nodes=24)
    first, last = (
        frequent_window.spectrum(memory, frequent_memory.weights(memory, z)) for z in (early, late)
    )
    assert first.shared[0] > 0.8
    assert first.noise[0] > 0.6
    # |u_0| of the table's run: .29 at t = 3,000.
    assert np.sqrt(last.shared[0]) == pytest.approx(0.29, abs=0.01)
    np.testing.assert_allclose([first.shared.sum(), last.shared.sum()], 1, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((8, 0.3, 0.0), "shared"), ((8, 0.3, 0.5, 1.0), "fraction"), ((2, 0.3, 0.5, 0.1), "above")],
)
def test_noise_times_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        frequent_window.noise_time(*arguments)
