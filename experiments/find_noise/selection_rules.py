"""Every rule for choosing what to cut, on one recall model, under one interface.

A rule sees validation examples alone and returns what it would remove from each matrix.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from toy.probes.spectra import noise_direction
from toy.recall import Task
from toy.transformer import TransformerConfig, Weights
from truncation.intervention import Intervention, Key, Params, edit
from truncation.rules import eigenprune, gradient_guided, greedy, grid, random_matrix
from truncation.search import comparison
from truncation.search import evaluator as search
from truncation.search.evaluator import Evaluator
from truncation.search.table import Cache, HostScores

FRACTIONS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.9)
RANDOM_DRAWS = 5


@dataclasses.dataclass(frozen=True)
class Found:
    """What a rule chose: kept components by matrix (only those cut), and what it cost.

    passes: evaluations of the whole validation set, a backward pass counted as three;
    compensated: mean-input biases belong to the choice; table: the rule's own rows.
    rank_correlation: Spearman's, of changes of loss predicted to first order against real ones.
    """

    rule: str
    chosen: str
    masks: dict[Key, np.ndarray]
    passes: float
    seconds: float
    compensated: bool = False
    warning: str | None = None
    table: list[dict] = dataclasses.field(default_factory=list)
    rank_correlation: float = float("nan")


@dataclasses.dataclass(frozen=True)
class Problem:
    """One trained model and what may be done to it."""

    evaluator: Evaluator
    keys: tuple[Key, ...]
    candidates: tuple[Intervention, ...]
    validation: np.ndarray
    objective: str
    seed: int
    cache: Callable[[str], Cache | None] = lambda rule: None

    def fresh(self, rule: str) -> Evaluator:
        """An evaluator whose count and cache belong to one rule."""
        return self.evaluator.fork(cache=self.cache(rule))


def warm_up(problem: Problem, *, brief: bool) -> None:
    """Compile what the rules will run, so that their seconds do not depend on who comes first."""
    evaluator = problem.evaluator.fork()
    one_each = search.candidates(problem.keys, ["0.5"])
    evaluator.evaluate(one_each, problem.validation)
    evaluator.full(problem.validation)
    gradient_guided.component_gradients(evaluator, problem.keys, problem.validation)
    if not brief:
        for key in problem.keys:
            eigenprune.effects(evaluator, key, problem.validation)


def of_interventions(problem: Problem, *, brief: bool = False) -> dict[str, list[Found]]:
    """Grid, both greedy compositions, gradient guidance, and random search at its price.

    brief: grid, guidance and random search alone.
    """
    found: dict[str, list[Found]] = {}
    options = {"objective": problem.objective, "seed": problem.seed, "samples": 1000}
    whole = grid.run(
        problem.fresh("grid"),
        problem.candidates,
        problem.validation,
        **options,  # type: ignore[arg-type]
    )
    found["grid"] = [_outcome(problem, "grid", whole)]
    kept = [
        not str(candidate.cuts[0]).partition("@")[2].startswith("-")
        for candidate in problem.candidates
    ]
    if not all(kept):
        found["grid, largest kept"] = [_best_of_rows(problem, "grid, largest kept", whole, kept)]
    for order in () if brief else greedy.ORDERS:
        rule = f"greedy, {order.replace('_', ' ')}"
        outcome = greedy.run(
            problem.fresh(rule),
            problem.candidates,
            problem.validation,
            order=order,
            **options,  # type: ignore[arg-type]
        )
        found[rule] = [_outcome(problem, rule, outcome)]
    guided = gradient_guided.run(
        problem.fresh("gradient-guided"),
        problem.candidates,
        problem.validation,
        **options,  # type: ignore[arg-type]
    )
    told = gradient_guided.against_grid(guided, whole, objective=problem.objective)
    found["gradient-guided"] = [
        dataclasses.replace(
            _outcome(problem, "gradient-guided", guided),
            rank_correlation=float(told["rank_correlation"]),
        )
    ]
    tried = sum("validation/loss" in row for row in guided.rows) - 1
    found["random search"] = [
        _random_search(problem, whole, tried, draw) for draw in range(RANDOM_DRAWS)
    ]
    return found


def of_data_free(problem: Problem, config: TransformerConfig) -> dict[str, list[Found]]:
    """Ranks from random-matrix theory, on all matrices at once or on the best one of them.

    Gavish-Donoho needs nothing; the Marchenko-Pastur edge uses the known initialisation.
    Which single matrix to cut is then a question to validation, one pass per matrix.
    """
    found = {}
    for rule, known in (("Gavish-Donoho", False), ("Marchenko-Pastur", True)):
        evaluator = problem.fresh(rule)
        started = time.perf_counter()
        sigma = {(layer, name): _initial_sigma(config, layer, name) for layer, name in problem.keys}
        cuts = random_matrix.interventions(evaluator, problem.keys, sigma if known else None)
        everything = Intervention(tuple(cut for i in cuts for cut in i.cuts))
        seconds = time.perf_counter() - started
        masks = {(c.layer, c.matrix): evaluator.mask(c) for c in everything.cuts}
        found[rule] = [Found(rule, str(everything), masks, 0.0, seconds)]
        single = f"{rule}, one matrix"
        outcome = grid.run(
            problem.fresh(single),
            cuts,
            problem.validation,
            objective=problem.objective,
            samples=100,
        )
        found[single] = [_outcome(problem, single, outcome)]
    return found


def of_eigenpruning(problem: Problem) -> dict[str, list[Found]]:
    """Eigenpruning with and without compensation, and random pruning of the same size.

    Each matrix alone at every fraction, and all matrices together; the variant that is best
    on validation is the choice, its compensation included in what validation sees.
    """
    found: dict[str, list[Found]] = {}
    effects = problem.fresh("effects")
    started = time.perf_counter()
    prunings: dict[str, eigenprune.Pruning] = {}
    for key in problem.keys:
        signed, _ = eigenprune.effects(effects, key, problem.validation, seed=problem.seed)
        scores = signed.mean(axis=0, dtype=np.float64)
        for fraction in FRACTIONS:
            mask = np.ones(len(scores), np.float32)
            mask[np.argsort(scores, kind="stable")[: int(fraction * len(scores) + 1e-9)]] = 0
            prunings[f"{key[0]}.{key[1]} {fraction:g}"] = eigenprune.Pruning({key: mask})
    for fraction in FRACTIONS:
        masks = {k: prunings[f"{k[0]}.{k[1]} {fraction:g}"].masks[k] for k in problem.keys}
        prunings[f"all {fraction:g}"] = eigenprune.Pruning(masks)
    spent, seconds = effects.spent, time.perf_counter() - started
    chosen = None
    for compensated in (False, True):
        rule = "eigenpruning, mean kept" if compensated else "eigenpruning"
        evaluator = _with_biases(problem) if compensated else problem.fresh(rule)
        started = time.perf_counter()
        best = _best_pruning(problem, evaluator, prunings, compensated)
        chosen = chosen or best
        found[rule] = [
            Found(
                rule,
                best,
                prunings[best].masks,
                (spent + evaluator.spent) / len(problem.validation),
                seconds + time.perf_counter() - started,
                compensated,
            )
        ]
    assert chosen is not None
    found["random pruning"] = [
        Found(
            "random pruning",
            f"{chosen}, at random",
            eigenprune.random_like(prunings[chosen], draw).masks,
            0.0,
            0.0,
        )
        for draw in range(RANDOM_DRAWS)
    ]
    return found


def edited(problem: Problem, found: Found) -> Params:
    """The parameters a rule's choice leads to."""
    evaluator = problem.evaluator
    if found.compensated:
        pruning = eigenprune.Pruning(found.masks)
        biased = _with_biases(problem)
        return eigenprune.apply(biased, pruning, compensate_on=problem.validation)
    masks = {key: jnp.asarray(mask) for key, mask in found.masks.items()}
    components = evaluator.decompositions(list(masks))
    return edit(evaluator.params, evaluator.model.matrices, components, masks)


def overlap(
    problem: Problem, found: Found, task: Task, config: TransformerConfig, weights: Weights
) -> dict[str, float]:
    """How much of what the cut matrices write towards the noise went, and towards outputs.

    For a direction w of a matrix's output, W w = sum_i sigma_i u_i (v_i . w), so the share of
    its energy in the removed components is sum_removed (sigma_i v_i . w)^2 / sum_i. noise is
    the direction of spectra.noise_direction; outputs the mean over ordinary tokens. Shares are
    of the cut matrices that write towards tokens at all (NaN where there is none).
    """
    totals = {"noise": np.zeros(2), "outputs": np.zeros(2)}
    for key, mask in found.masks.items():
        _, s, vt = problem.evaluator.decompositions([key])[key]
        for name, tokens in (("noise", task.noise), ("outputs", tuple(map(int, task.outputs)))):
            for token in tokens:
                one = dataclasses.replace(task, noise=(token,))
                direction = noise_direction(one, config, weights, *key)
                if direction is None:
                    continue
                energy = np.asarray((s * (vt @ direction)) ** 2, np.float64)
                totals[name] += np.array([energy @ (1 - mask), energy.sum()]) / len(tokens)
    return {
        name: float(removed / whole) if whole > 0 else float("nan")
        for name, (removed, whole) in totals.items()
    }


def _outcome(problem: Problem, rule: str, outcome: search.Outcome) -> Found:
    cuts = problem.evaluator.expanded(outcome.best).cuts
    return Found(
        rule,
        str(outcome.best) or "nothing",
        {(cut.layer, cut.matrix): problem.evaluator.mask(cut) for cut in cuts},
        outcome.evaluations / len(problem.validation),
        outcome.seconds,
        warning=outcome.warning,
        table=outcome.rows,
    )


def _random_search(problem: Problem, whole: search.Outcome, tried: int, draw: int) -> Found:
    """The best on validation of as many random candidates as guidance evaluated."""
    generator = np.random.default_rng([problem.seed, draw])
    among = np.zeros(len(problem.candidates), bool)
    among[generator.choice(len(among), tried, replace=False)] = True
    return _best_of_rows(problem, "random search", whole, among.tolist())


def _best_of_rows(
    problem: Problem, rule: str, whole: search.Outcome, among: Sequence[bool]
) -> Found:
    """What the grid would have chosen, and cost, on some of its candidates."""
    column = f"validation/{problem.objective}"
    sign = 1 if problem.objective in search.LOWER_IS_BETTER else -1
    indices = [index for index, member in enumerate(among) if member]
    best = min(indices, key=lambda i: sign * whole.rows[i + 1][column])
    share = (len(indices) + 1) / (len(among) + 1)
    evaluations = (len(indices) + 1) * len(problem.validation)
    cut = problem.candidates[best]
    return _outcome(problem, rule, search.Outcome(cut, [], evaluations, share * whole.seconds))


def _best_pruning(
    problem: Problem,
    evaluator: Evaluator,
    prunings: dict[str, eigenprune.Pruning],
    compensated: bool,
) -> str:
    weights = evaluator.weights(problem.validation)
    scores: list[HostScores] = []
    for pruning in prunings.values():
        params = eigenprune.apply(
            evaluator, pruning, compensate_on=problem.validation if compensated else None
        )
        scores.append(evaluator.model_scores(params, problem.validation))
        evaluator.spent += len(problem.validation)
    stacked = {name: np.concatenate([s[name] for s in scores]) for name in scores[0]}
    ranked = comparison.merit(stacked, weights, problem.objective)
    return list(prunings)[max(range(len(ranked)), key=ranked.__getitem__)]


def _with_biases(problem: Problem) -> Evaluator:
    """The same model with a bias of zero everywhere: one structure, compiled once."""
    params, matrices = problem.evaluator.params, problem.evaluator.model.matrices
    for key in problem.keys:
        add_bias = matrices[key].add_bias
        assert add_bias is not None
        params = add_bias(params, jnp.zeros(matrices[key].read(params).shape[1]))
    return problem.evaluator.fork(params=params)


def _initial_sigma(config: TransformerConfig, layer: int, name: str) -> float:
    """Standard deviation of U(-1/sqrt d_in, 1/sqrt d_in)."""
    return float(1 / np.sqrt(3 * config.shape(layer, name)[0]))


def keys_of(config: TransformerConfig, matrices: Sequence[Key]) -> tuple[Key, ...]:
    """The stored, learned matrices; products repeat them and are left out."""
    return tuple(
        key for key in matrices if key[1] != "ov" and f"{key[0]}.{key[1]}" not in config.frozen
    )
