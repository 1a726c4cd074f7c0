"""The rules compared: each on the same model, with a price of its own, judged by the truth."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from truncated_weights.toy.probes.spectra import noise_direction
from truncated_weights.toy.recall import Task
from truncated_weights.toy.transformer import TransformerConfig, Weights
from truncated_weights.truncation import rules
from truncated_weights.truncation.notation import METRICS, Intervention, Key, candidates
from truncated_weights.truncation.rules import gradient_guided, greedy, grid
from truncated_weights.truncation.search.cache import Cache
from truncated_weights.truncation.search.decompositions import Decompositions
from truncated_weights.truncation.search.effects import effects
from truncated_weights.truncation.search.problem import Outcome, SearchProblem
from truncated_weights.truncation.search.scorer import Scorer

FRACTIONS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.9)
RANDOM_DRAWS = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What one rule chose.

    rank_correlation: Spearman's, of changes of loss predicted to first order against real ones.
    """

    outcome: Outcome
    rank_correlation: float = float("nan")


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """One trained model and what may be done to it; every rule gets a cost and a cache.

    measured: by metric of the data, the candidates of the grid in it.
    """

    problem: SearchProblem
    objective: str
    seed: int
    cache: Callable[[str], Cache | None] = lambda rule: None
    measured: Mapping[str, Sequence[Intervention]] = dataclasses.field(default_factory=dict)

    def run(self, label: str, rule: str, **options: object) -> Found:
        """One rule under a label."""
        scorer = self.problem.scorer.fresh(cache=self.cache(label))
        problem = dataclasses.replace(self.problem, scorer=scorer)
        common = {"objective": self.objective, "seed": self.seed, "samples": 1000}
        return Found(rules.run(rule, problem, **(common | options)))


def warm_up(comparison: Comparison, *, brief: bool) -> None:
    """Compile what the rules will run, so that their seconds do not depend on who comes first."""
    problem = comparison.problem
    scorer = problem.scorer.fresh()
    scorer.evaluate(candidates(problem.keys, ["0.5"]), problem.validation)
    scorer.full(problem.validation)
    gradient_guided.component_gradients(scorer, problem.keys, problem.validation)
    if not brief:
        for key in problem.keys:
            effects(scorer, key, problem.validation)


def of_interventions(comparison: Comparison, *, brief: bool = False) -> dict[str, list[Found]]:
    """Grid, both greedy compositions, gradient guidance, and random search at its price.

    brief: grid, guidance and random search alone.
    """
    problem, objective = comparison.problem, comparison.objective
    whole = comparison.run("grid", "grid")
    found = {"grid": [whole]}
    kept = [i for i, one in enumerate(problem.candidates) if not one.cuts[0].rho.startswith("-")]
    if len(kept) < len(problem.candidates):
        largest = grid.among(problem, whole.outcome, kept, objective=objective)
        found["grid, largest kept"] = [Found(largest)]
    for order in () if brief else greedy.ORDERS:
        label = f"greedy, {order.replace('_', ' ')}"
        found[label] = [comparison.run(label, "greedy", order=order)]
    guided = comparison.run("gradient-guided", "gradient_guided").outcome
    told = gradient_guided.against_grid(guided, whole.outcome, objective=objective)
    found["gradient-guided"] = [Found(guided, float(told["rank_correlation"]))]
    tried = sum("validation/loss" in row for row in guided.rows) - 1
    found["random search"] = [
        comparison.run(
            "random search",
            "random_search",
            seed=(comparison.seed, draw),
            count=tried,
            known=whole.outcome,
        )
        for draw in range(RANDOM_DRAWS)
    ]
    return found


def by_metric(
    scorer: Scorer, keys: Sequence[Key], rhos: Sequence[str]
) -> dict[str, list[Intervention]]:
    """By metric of the data, the grid in it; a product of matrices is not measured so."""
    stored = [key for key in keys if not scorer.network.matrices[key].parts]
    return {metric: candidates(stored, [f"{metric}:{rho}" for rho in rhos]) for metric in METRICS}


def of_metrics(comparison: Comparison) -> dict[str, list[Found]]:
    """The grid once more where components are measured by what they do to data.

    The price of the moments, a pass over as many sequences as the test has, is not counted.
    """
    found = {}
    for metric, grid_of in comparison.measured.items():
        problem = dataclasses.replace(comparison.problem, candidates=tuple(grid_of))
        label = f"grid, {metric}"
        found[label] = [dataclasses.replace(comparison, problem=problem).run(label, "grid")]
    return found


def of_data_free(comparison: Comparison, config: TransformerConfig) -> dict[str, list[Found]]:
    """Ranks from random-matrix theory, on all matrices at once or on the best one of them.

    Gavish-Donoho needs nothing; the Marchenko-Pastur edge uses the known initialisation.
    Which single matrix to cut is then a question to validation, one pass per matrix.
    """
    # Standard deviation of U(-1/sqrt d_in, 1/sqrt d_in).
    sigma = {key: float(1 / np.sqrt(3 * config.shape(*key)[0])) for key in comparison.problem.keys}
    found = {}
    for label, known in (("Gavish-Donoho", None), ("Marchenko-Pastur", sigma)):
        found[label] = [comparison.run(label, "random_matrix", sigma=known)]
        single = f"{label}, one matrix"
        found[single] = [
            comparison.run(single, "random_matrix", sigma=known, single=True, samples=100)
        ]
    return found


def of_eigenpruning(comparison: Comparison) -> dict[str, list[Found]]:
    """Eigenpruning with and without compensation, and random pruning of the same size.

    Each matrix alone at every fraction, and all matrices together; the variant that is best
    on validation is the choice, its compensation included in what validation sees.
    """
    found: dict[str, list[Found]] = {}
    for label, biased in (("eigenpruning", False), ("eigenpruning, mean kept", True)):
        options = {"fractions": FRACTIONS, "compensation": (biased,), "alone": True}
        found[label] = [comparison.run(label, "eigenprune", **options)]
    like = found["eigenpruning"][0].outcome.nearest
    found["random pruning"] = [
        comparison.run("random pruning", "random_pruning", like=like, seed=draw)
        for draw in range(RANDOM_DRAWS)
    ]
    return found


def overlap(
    decompositions: Decompositions,
    outcome: Outcome,
    task: Task,
    config: TransformerConfig,
    weights: Weights,
) -> dict[str, float]:
    """How much of what the cut matrices write towards the noise went, and towards outputs.

    For a direction w of a matrix's output the share of its energy that went with R, what was
    removed of W, is |R w|^2 / |W w|^2: of plain components sum_removed (sigma_i v_i . w)^2 / sum_i.
    noise is the direction of spectra.noise_direction; outputs the mean over ordinary tokens. Shares
    are of the cut matrices that write towards tokens at all (NaN where there is none).
    """
    totals = {"noise": np.zeros(2), "outputs": np.zeros(2)}
    choice, matrices = outcome.choice, decompositions.matrices
    after = choice.params(decompositions)
    resolved = decompositions.resolve(choice.intervention or Intervention(()))
    for key in dict.fromkeys((*choice.masks, *resolved)):
        matrix = np.asarray(matrices[key].read(weights), np.float64)
        removed = matrix - np.asarray(matrices[key].read(after), np.float64)
        for name, tokens in (("noise", task.noise), ("outputs", tuple(map(int, task.outputs)))):
            for token in tokens:
                one = dataclasses.replace(task, noise=(token,))
                direction = noise_direction(one, config, weights, *key)
                if direction is None:
                    continue
                energy = [np.sum((part @ direction) ** 2) for part in (removed, matrix)]
                totals[name] += np.array(energy) / len(tokens)
    return {
        name: float(removed / whole) if whole > 0 else float("nan")
        for name, (removed, whole) in totals.items()
    }


def keys_of(config: TransformerConfig, matrices: Sequence[Key]) -> tuple[Key, ...]:
    """The stored, learned matrices; products repeat them and are left out."""
    return tuple(
        key for key in matrices if key[1] != "ov" and f"{key[0]}.{key[1]}" not in config.frozen
    )
