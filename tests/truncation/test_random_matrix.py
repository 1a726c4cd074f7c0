import jax
import numpy as np

from truncation import intervention as iv
from truncation.rules import random_matrix
from truncation.search.evaluator import Evaluator
from truncation.search.model import Model


def spiked(spikes, sigma, shape=(90, 120)):
    """A model of two matrices: noise alone, and noise with planted directions."""
    rng = np.random.default_rng(0)
    noise = [sigma * rng.normal(size=shape) for _ in range(2)]
    u, _, vt = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    noise[1] += (u[:, : len(spikes)] * np.asarray(spikes)) @ vt[: len(spikes)]
    params = {"a": jax.numpy.asarray(noise[0]), "b": jax.numpy.asarray(noise[1])}
    model = Model(
        matrices={(0, "fc_in"): iv.at_path("a"), (0, "fc_out"): iv.at_path("b")},
        examples={"x": np.zeros((1, 1))},
        weights=np.ones((1, 1)),
        scores=lambda params, batch: {},
    )
    return Evaluator(model, params)


def test_keeps_what_is_planted_and_writes_it_as_an_intervention():
    sigma = 0.02
    edge = sigma * (np.sqrt(90) + np.sqrt(120))
    evaluator = spiked([8 * edge, 5 * edge, 3 * edge, 2 * edge], sigma)
    keys = list(evaluator.model.matrices)
    assert random_matrix.kept(evaluator, keys) == {keys[0]: 0, keys[1]: 4}
    known = random_matrix.kept(evaluator, keys, dict.fromkeys(keys, sigma * 1.05))
    assert known == {keys[0]: 0, keys[1]: 4}
    texts = [str(i) for i in random_matrix.interventions(evaluator, keys)]
    assert texts == ["0.fc_in@0", "0.fc_out@0.05"]
    edited = evaluator.edited(iv.parse("+".join(texts)))
    assert np.linalg.matrix_rank(np.asarray(edited["b"]), tol=1e-4) == 4


def test_the_shortest_rho_keeps_exactly_so_many():
    for rank in (1, 7, 64, 128, 513, 5120):
        for kept in {0, 1, rank // 3, rank - 1, rank}:
            cut = iv.keep_top(2, "fc_in", kept, rank)
            again = iv.parse(str(cut)).cuts[0]
            assert iv.kept_ranks(again, rank) == (0, kept)
