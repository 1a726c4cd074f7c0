"""Every public function of theory/: what is no argument is refused by name, lists are arrays.

GOOD holds one call of each. Bad values are made from the good ones by their kind, so that a new
function is refused by the first test until it is listed, and then meets all the others.
"""

import importlib
import inspect
import pkgutil

import jaxtyping
import numpy as np
import pytest

from truncated_weights import theory
from truncated_weights.theory import (
    finite_samples,
    frequent_memory,
    memory_flow,
    memory_spectrum,
    plateau,
    recall_chain,
)
from truncated_weights.theory.text import shared_answers

NAN, INFINITY = float("nan"), float("inf")
WITHIN = f"{theory.__name__}."
# The shared checks themselves have tests of their own.
LEFT_OUT = (f"{WITHIN}checks",)
UNIFORM, PAIRS = np.full(4, 0.25), np.full((4, 4), 0.25)
LANGUAGE = dict(unigram=UNIFORM, bigram=PAIRS, trigger=1, alpha=0.3, length=6)
TIMES, LAW = np.array([0.0, 2.0, 1.0]), np.array([0.5, 0.3, 0.2])
FACTS = inspect.unwrap(frequent_memory.facts)(LAW, 0.3, 0.4)
SHARED = inspect.unwrap(shared_answers.memory)(LAW, np.array([0, 1, 1]), 0.3, 0.4)
CHAIN = inspect.unwrap(recall_chain.chain)(**LANGUAGE)
SAMPLED = inspect.unwrap(finite_samples.sampled_step)(**LANGUAGE)
PROBE = tuple(np.linspace(0, 1, 10) for _ in range(2))
VALUES = np.arange(12.0).reshape(3, 4) % 5
MATRIX = np.arange(16.0).reshape(4, 4) % 7
LOGITS = memory_flow.Logits(*(np.array([0.1 * k]) for k in range(3)))
HEAVY = dict(learning_rate=0.1, momentum=0.5)
STEPPED = dict(width=8, hidden=32, num_outputs=3, num_classes=5, alpha=0.3, steps=2, **HEAVY)
ENERGY = np.cos(np.arange(9.0))


def falling(state):
    return -state


GOOD = {
    "spectra.superposition.accuracy": dict(num_facts=8, dimensions=16, alpha=0.3),
    "spectra.superposition.noise_capacity": dict(dimensions=16, alpha=0.3),
    "spectra.superposition.clean_capacity": dict(dimensions=16),
    "spectra.superposition.spike_edge": dict(num_facts=8, dimensions=16, alpha=0.3),
    "spectra.superposition.read_spike": dict(
        singular_values=np.array([3.0, 1.0, 0.5]), shape=np.array([3, 4])
    ),
    "spectra.superposition.components": dict(frequencies=LAW, alpha=0.3),
    "attention_step.population_gradient": LANGUAGE,
    "attention_step.correct_minus_noise": dict(gradient=np.arange(10.0), trigger=1),
    "attention_step.asymptotic_scores": dict(num_ordinary=5, alpha=0.3),
    "finite_samples.sampled_step": LANGUAGE,
    "finite_samples.mean_probe": dict(step=SAMPLED),
    "finite_samples.margin_means": dict(step=SAMPLED, probe=PROBE, against=2),
    "finite_samples.margin_deviations": dict(step=SAMPLED, probe=PROBE, against=2),
    "finite_samples.signal_to_noise": dict(step=SAMPLED, against=2),
    "finite_samples.entry_deviations": dict(step=SAMPLED, block="value"),
    "first_step.population_gradients": LANGUAGE,
    "first_step.label_law": dict(outputs=np.array([0, 2]), alpha=0.3, num_tokens=4),
    "first_step.sequence_features": dict(tokens=np.array([[0, 1, 2]]), num_tokens=3),
    "first_step.margins": dict(step=VALUES, features=np.ones((2, 4))),
    "first_step.mean_margins": LANGUAGE | dict(test_alpha=0.2),
    "first_step.asymptotic_margins": dict(num_ordinary=5, alpha=0.3),
    "frequent_memory.facts": dict(frequencies=LAW, noise=0.3, shared=0.4),
    "frequent_memory.zipf": dict(num_facts=4, exponent=1.0),
    "frequent_memory.independent_logits": dict(
        memory=inspect.unwrap(frequent_memory.facts)(LAW, 0.3), times=TIMES
    ),
    "frequent_memory.logits": dict(memory=FACTS, times=TIMES, num_nodes=8),
    "frequent_memory.weights": dict(memory=FACTS, values=VALUES),
    "frequent_memory.read": dict(memory=FACTS, matrix=MATRIX),
    "frequent_memory.nodes": dict(frequencies=LAW, num_nodes=2),
    "frequent_memory.node_states": dict(
        memory=FACTS, grid=inspect.unwrap(frequent_memory.nodes)(LAW), times=TIMES
    ),
    "frequent_window.margins": dict(values=VALUES),
    "frequent_window.edge": dict(frequencies=LAW, margin=np.array([1.0, -1.0, -2.0])),
    "frequent_window.spectrum": dict(memory=FACTS, matrix=MATRIX),
    "frequent_window.drop_top": dict(matrix=MATRIX, count=1),
    "frequent_window.truncated_logits": dict(memory=FACTS, values=VALUES),
    "frequent_window.corrected": dict(memory=FACTS, values=VALUES),
    "frequent_window.edges": dict(memory=FACTS, times=TIMES),
    "frequent_window.start_edge": dict(alpha=0.3, shared=0.4),
    "frequent_window.overtaking_time": dict(frequencies=LAW, alpha=0.3, shared=0.4),
    "frequent_window.noise_time": dict(num_facts=20, alpha=0.3, shared=0.4, fraction=0.5),
    "input_overlap.noise_drive": dict(embeddings=VALUES, frequencies=LAW),
    "input_overlap.effective_shared": dict(drive=LAW, frequencies=LAW),
    "input_overlap.random_drive": dict(frequencies=LAW, width=8),
    "input_overlap.rectified_overlap": dict(cosine=np.array([0.0, -0.5])),
    "lazy.arc_cosine": dict(cosine=0.5),
    "lazy.part_kernels": dict(width=8, hidden=32, overlap=1.0, attended=0.1),
    "lazy.trigger_kernel": dict(width=8, hidden=32, same=True),
    "lazy.descend": dict(
        kernel=np.eye(2), targets=np.full((2, 3), 1 / 3), start=VALUES[:2, :3], steps=2, **HEAVY
    ),
    "lazy.trigger_curves": STEPPED,
    "lazy.attended_overlap": dict(frequencies=np.array([[0.5, 0.5], [0.2, 0.8]]), length=5),
    "lazy.softmax_overlap": dict(
        frequencies=np.array([[0.5, 0.5], [0.2, 0.8]]), length=5, width=8
    ),
    "lazy.attention_paths": dict(width=8, hidden=32, attended=0.2),
    "lazy.margin_ratio": dict(width=8, hidden=32, attended=0.2, softmax=0.3),
    "lazy.label_deviation": dict(
        alpha=0.3, num_classes=8, num_outputs=4, labels=10.0, num_noise=2
    ),
    "learning_times.curves": dict(num_ordinary=8, alpha=0.3, times=TIMES),
    "learning_times.half_times": dict(num_ordinary=12, alpha=0.3),
    "learning_times.asymptotic_half_times": dict(num_ordinary=12, alpha=0.3),
    "learning_times.take_over_time": dict(frequency=0.2, num_outputs=8, alpha=0.3, score=2.0),
    "learning_times.take_over_steps": dict(
        frequency=0.2, num_outputs=8, alpha=0.3, speed=2.0, at_most=500, **HEAVY
    ),
    "log_time.integrate": dict(
        velocity=falling, initial=np.ones(2), times=TIMES, unit=1.0, tolerance=1e-6
    ),
    "log_time.trajectory": dict(
        velocity=falling, initial=np.ones(2), until=2.0, unit=1.0, tolerance=1e-6
    ),
    "memory_corrections.discretisation_slopes": dict(num_inputs=4, alpha=0.3, times=TIMES),
    "memory_corrections.random_embedding_coefficient": dict(num_inputs=4, alpha=0.3, times=TIMES),
    "memory_decay.stationary_logits": dict(num_inputs=4, alpha=0.3, decays=np.array([0.1])),
    "memory_decay.singular_values": dict(num_inputs=4, alpha=0.3, decays=np.array([0.1])),
    "memory_decay.phase_diagram": dict(
        num_inputs=np.array([2, 4]), alphas=np.array([0.3]), decays=np.array([0.1])
    ),
    "memory_decay.change_of_order": dict(num_inputs=8, alpha=0.1),
    "memory_flow.logits": dict(num_inputs=4, alpha=0.3, times=TIMES),
    "memory_flow.asymptotic_logits": dict(num_inputs=4, alpha=0.3, times=np.array([1e3])),
    "memory_flow.probabilities": dict(num_inputs=4, values=LOGITS),
    "memory_flow.start": dict(alpha=0.3),
    "memory_flow.settled": dict(num_inputs=4, alpha=0.3),
    "memory_flow.velocity": dict(num_inputs=4, alpha=0.3),
    "memory_flow.from_gap": dict(
        num_inputs=4, alpha=0.3, gap=np.array([1.0]), excess=np.array([0.1])
    ),
    "memory_spectrum.singular_values": dict(num_inputs=4, alpha=0.3, times=TIMES),
    "memory_spectrum.noise_vectors": dict(num_inputs=4),
    "memory_spectrum.truncated_probabilities": dict(
        num_inputs=4, alpha=0.3, times=TIMES, keep="signal"
    ),
    "memory_spectrum.crossing": dict(num_inputs=4, alpha=0.3, until=1e3),
    "memory_spectrum.phase_diagram": dict(
        num_inputs=np.array([2, 4]), alphas=np.array([0.3]), times=np.array([1.0])
    ),
    "memory_spectrum.early_ratio": dict(num_inputs=4, alpha=0.3),
    "memory_spectrum.late_ratio": dict(num_inputs=4),
    "plateau.edge_of_stability": HEAVY,
    "plateau.wander": dict(sharpness=5.0, alpha=0.3, labels=10.0, lags=4, **HEAVY),
    "plateau.wander_of_modes": dict(
        curvatures=np.array([5.0, 1.0]), weights=np.array([1.0, 0.0]), labels=10.0, window=9,
        lags=4, **HEAVY,
    ),
    "plateau.observed": dict(series=np.stack([ENERGY, ENERGY**2]), lags=4),
    "plateau.deviation_error": dict(wander=plateau.Wander(1.0, 4.0, ENERGY), steps=9),
    "plateau.first_dip": dict(correlation=ENERGY),
    "recall_chain.chain": LANGUAGE | dict(noise_row=UNIFORM),
    "recall_chain.means": dict(law=CHAIN),
    "recall_chain.moments": dict(law=CHAIN),
    "text.shared_answers.memory": dict(
        frequencies=LAW, answers=np.array([0, 1, 1]), alpha=0.3, shared=0.4
    ),
    "text.shared_answers.logits": dict(given=SHARED, times=TIMES),
    "text.shared_answers.targets": dict(given=SHARED),
    "text.shared_answers.without_top": dict(given=SHARED, values=VALUES[:, :3]),
    "text.shared_answers.without_row": dict(given=SHARED, values=VALUES[:, :3], share=0.5),
    "text.shared_answers.known": dict(given=SHARED, values=VALUES[:, :3]),
}  # fmt: skip
# Numbers that may be negative, and those above one.
ANY_SIGN = {"overlap", "cosine", "share"}
FRACTIONS = {"alpha", "shared", "momentum", "fraction", "test_alpha", "noise", "cosine"}
# Arguments that are not told by their own name, with the name they are told by.
TOLD_AS = {"lags": "lags|window", "num_noise": "num_noise|num_classes"}
# One number or several.
SEVERAL = {"noise"}


def public():
    """Dotted name below theory -> function, of all that are defined there."""
    found = {}
    for module in pkgutil.walk_packages(theory.__path__, WITHIN):
        if module.ispkg or module.name in LEFT_OUT:
            continue
        loaded = importlib.import_module(module.name)
        for name, thing in inspect.getmembers(loaded, inspect.isfunction):
            if not name.startswith("_") and thing.__module__ == module.name:
                found[f"{module.name.removeprefix(WITHIN)}.{name}"] = inspect.unwrap(thing)
    return found


FUNCTIONS = public()


@pytest.fixture
def as_a_user():
    """Without the tests' own check of annotations, which would refuse first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def wrong(name, value):
    """Values that no argument of this name and kind may have."""
    if isinstance(value, bool | str) or callable(value) or hasattr(value, "_fields"):
        return
    if isinstance(value, int):
        yield from (-3, 0.5, NAN, "three", [value, value])
    elif isinstance(value, float):
        # The end of a search may be infinite.
        yield from (NAN, "three", *([] if name == "until" else [INFINITY]))
        if name not in SEVERAL:
            yield [value, value]
        if name not in ANY_SIGN:
            yield -1.0
        if name in FRACTIONS:
            yield 2.0
    elif isinstance(value, np.ndarray):
        broken = value.astype(np.float64)
        broken.flat[0] = NAN
        yield from (broken, value[..., None], ["three"], NAN)
        if value.dtype == np.int64:
            yield value + 0.5
    elif isinstance(value, tuple):
        yield from ((value[0], value[1] * NAN), value[:1])


@pytest.mark.fault("F2")
def test_every_public_function_is_listed_and_takes_its_good_arguments():
    assert set(GOOD) == set(FUNCTIONS)
    for name, function in FUNCTIONS.items():
        function(**GOOD[name])


@pytest.mark.fault("F2")
@pytest.mark.parametrize("name", GOOD)
def test_what_is_no_argument_is_refused_by_name(name, as_a_user):
    for argument, value in GOOD[name].items():
        for bad in wrong(argument, value):
            with pytest.raises(ValueError, match=TOLD_AS.get(argument, argument)):
                FUNCTIONS[name](**(GOOD[name] | {argument: bad}))


def flat(result):
    """All numbers of a result, however nested."""
    if callable(result):
        return []
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, list | tuple):
        return [x for part in result for x in flat(part)]
    return list(np.ravel(result))


@pytest.mark.fault("F2")
@pytest.mark.parametrize("name", GOOD)
def test_lists_are_taken_as_arrays_are(name):
    settings = GOOD[name]
    listed = {
        key: value.tolist()
        if isinstance(value, np.ndarray)
        else [x.tolist() for x in value]
        if type(value) is tuple
        else value
        for key, value in settings.items()
    }
    given = importlib.import_module(f"truncated_weights.theory.{name.rpartition('.')[0]}")
    checked = getattr(given, name.rpartition(".")[2])  # annotations included
    np.testing.assert_array_equal(flat(checked(**listed)), flat(checked(**settings)))


@pytest.mark.fault("F2")
def test_answers_outside_the_domain_are_right_or_refused():
    assert frequent_memory.zipf(4, 0.0).tolist() == [0.25] * 4
    overtaken = importlib.import_module("truncated_weights.theory.frequent_window").overtaking_time
    # Without a shared feature no fact is ever behind the noise.
    assert overtaken(LAW, 0.3, 0.0).tolist() == [0.0, 0.0, 0.0]
    assert np.all(overtaken(LAW, 0.5, 0.0) == INFINITY)
    for bad in ([0, 1, 0.5], [0, 1, -1], [0, 1], [[0, 1, 1]]):
        with pytest.raises(ValueError, match="answers"):
            inspect.unwrap(shared_answers.memory)(LAW, bad, 0.3)
    empty = importlib.import_module("truncated_weights.theory.learning_times").curves(8, 0.3, [])
    assert all(x.shape == (0,) for x in empty)
    assert memory_flow.logits(4, 0.3, []).noise.shape == (0,)


@pytest.mark.fault("F1")
@pytest.mark.parametrize("until", [NAN, 0.0, -1.0, "soon", [1.0, 2.0]])
def test_a_search_for_crossings_ends(until):
    with pytest.raises(ValueError, match="until"):
        inspect.unwrap(memory_spectrum.crossing)(4, 0.3, until=until)


@pytest.mark.fault("F1")
@pytest.mark.parametrize("num_inputs", [2, 5, 15, 42])
def test_next_to_the_threshold_there_is_one_crossing_or_none(num_inputs):
    """alpha within 1e3 floats of 1 / sqrt(N + 1): what exact arithmetic says of the float."""
    from fractions import Fraction

    nearest = 1 / np.sqrt(num_inputs + 1)
    times = {}
    for away in (-1000, -100, 0, 100, 1000):
        alpha = float(nearest + away * np.spacing(nearest))
        side = Fraction(alpha) ** 2 * (num_inputs + 1) - 1
        expected = side < 0 if num_inputs >= 4 else side > 0
        found = memory_spectrum.crossing(num_inputs, alpha).times
        assert found.size == expected, (num_inputs, away, found)
        if found.size:
            times[abs(float(side))] = found[0]
    (near, early), *_, (far, late) = sorted(times.items())
    # t / N goes like the root of the distance, where its third power outweighs the first.
    assert late / early == pytest.approx(np.sqrt(far / near), rel=1e-3)


@pytest.mark.fault("F1")
def test_three_inputs_next_to_one_half_never_cross():
    for alpha in (np.nextafter(0.5, 0), np.nextafter(0.5, 1), 0.5 + 1e-9):
        assert memory_spectrum.crossing(3, float(alpha)).times.size == 0
