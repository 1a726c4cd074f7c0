"""The window of corrected facts at N = 512 against training: minutes, so run by `make slow`."""

import numpy as np
import pytest

from truncated_weights.theory import frequent_memory, frequent_window
from truncated_weights.toy import memory, memory_descent
from truncated_weights.truncation import editing, notation

SIZE, STEP, STOPS = 512, 4.0, (25, 75, 250)


def margins(weights):
    """Of the full memory and of the one that lost its top component."""
    cut = notation.parse(f"0.fc_in@-{1.01 / (SIZE + 1):.6f}")
    edited = editing.apply(weights, cut, memory.MATRICES)
    return [memory.measure_facts(w)["margin"] for w in (weights, edited)]


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.45])
def test_boundaries_within_five_per_cent_in_log_frequency(shared, alpha):
    law = memory.frequencies("zipf", SIZE)
    problem = memory.Memory(SIZE, alpha, frequencies=law, shared=shared)
    found = memory_descent.descend(problem, step_size=STEP, stops=STOPS, measure=margins)
    facts = frequent_memory.facts(np.array(law), alpha, shared)
    times = STEP * np.array(STOPS)
    predicted = frequent_memory.logits(facts, times, num_nodes=40)
    for values, (full, cut) in zip(predicted, found, strict=True):
        for exact, margin in (
            (values, full),
            (frequent_window.truncated_logits(facts, values), cut),
        ):
            there = frequent_window.edge(facts.frequencies, frequent_window.margins(exact))
            here = frequent_window.edge(facts.frequencies, np.asarray(margin))
            if there in (0.0, np.inf):
                assert here == there
            else:
                assert np.log(here) == pytest.approx(np.log(there), rel=0.05)
