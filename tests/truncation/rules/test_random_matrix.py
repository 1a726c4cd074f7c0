import jax
import numpy as np

from truncated_weights.truncation import notation
from truncated_weights.truncation.address import at_path
from truncated_weights.truncation.rules import random_matrix
from truncated_weights.truncation.search.examples import Examples
from truncated_weights.truncation.search.network import BlackBox
from truncated_weights.truncation.search.problem import SearchProblem
from truncated_weights.truncation.search.scorer import Scorer


def spiked(spikes, sigma, shape=(90, 120)):
    """A model of two matrices: noise alone, and noise with planted directions."""
    rng = np.random.default_rng(0)
    noise = [sigma * rng.normal(size=shape) for _ in range(2)]
    u, _, vt = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    clean = noise[1]
    noise[1] = clean + (u[:, : len(spikes)] * np.asarray(spikes)) @ vt[: len(spikes)]
    params = {"a": jax.numpy.asarray(noise[0]), "b": jax.numpy.asarray(noise[1])}
    matrices = {(0, "fc_in"): at_path("a"), (0, "fc_out"): at_path("b")}

    def scores(params, batch):
        # The squared distance to the planted part alone: what the threshold is about.
        loss = jax.numpy.sum((params["b"] - (noise[1] - clean)) ** 2)
        return {"loss": loss * batch["x"], "accuracy": 0 * batch["x"]}

    examples = Examples({"x": np.ones((4, 1), np.float32)}, np.ones((4, 1)))
    return Scorer(BlackBox(matrices, scores), params, examples)


def test_keeps_what_is_planted_and_writes_it_as_an_intervention():
    sigma = 0.02
    edge = sigma * (np.sqrt(90) + np.sqrt(120))
    scorer = spiked([8 * edge, 5 * edge, 3 * edge, 2 * edge], sigma)
    keys = list(scorer.network.matrices)
    assert random_matrix.num_kept(scorer, keys) == {keys[0]: 0, keys[1]: 4}
    known = random_matrix.num_kept(scorer, keys, dict.fromkeys(keys, sigma * 1.05))
    assert known == {keys[0]: 0, keys[1]: 4}
    texts = [str(i) for i in random_matrix.interventions(scorer, keys)]
    assert texts == ["0.fc_in@0", "0.fc_out@0.05"]
    edited = scorer.decompositions.edited(notation.parse("+".join(texts)))
    assert np.linalg.matrix_rank(np.asarray(edited["b"]), tol=1e-4) == 4


def test_the_shortest_rho_keeps_exactly_so_many():
    for rank in (1, 7, 64, 128, 513, 5120):
        for kept in {0, 1, rank // 3, rank - 1, rank}:
            cut = notation.keep_top(2, "fc_in", kept, rank)
            again = notation.parse(str(cut)).cuts[0]
            assert notation.kept_band(again, rank) == (0, kept)


def test_as_a_rule_all_together_or_the_best_one_alone():
    sigma = 0.02
    edge = sigma * (np.sqrt(90) + np.sqrt(120))
    scorer = spiked([8 * edge, 5 * edge], sigma)
    candidates = tuple(notation.candidates(["0.fc_in", "0.fc_out"], ["0.5"]))
    problem = SearchProblem(scorer, candidates, np.arange(2), np.arange(2, 4))
    together = random_matrix.run(problem)
    assert str(together.best) == "0.fc_in@0+0.fc_out@0.03"
    assert [row["kept"] for row in together.rows[1:]] == [2]
    assert [row["chosen"] for row in together.rows] == [False, True]
    # Nothing but the test examples is looked at: the full model and the choice.
    assert together.evaluations == 2 * 2
    assert together.rows[1]["test/loss"] < 0.2 * together.rows[0]["test/loss"]
    alone = random_matrix.run(problem, objective="loss", single=True, samples=100)
    assert str(alone.best) == "0.fc_out@0.03"
    assert alone.evaluations == 2 * (1 + 2) + 2 * 2
