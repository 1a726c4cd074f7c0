"""Greedy composition of cuts that keeps only what helps on validation, and can take it back.

A state is a set of cuts, at most one per matrix. A move sets one matrix to one of its
candidate cuts or, where it is cut already, restores it. A move is accepted only if it
improves the objective (ties broken by lower loss), so the process stops by itself: the
figure rises strictly and there are finitely many states. Every matrix is always cut
from its original, so no decomposition is ever repeated.
"""

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from truncation.intervention import Cut, Intervention, Key
from truncation.search import comparison
from truncation.search import evaluator as search
from truncation.search.table import HostScores

ORDERS = ("best_first", "last_first")


@dataclasses.dataclass(frozen=True, eq=False)
class _State:
    intervention: Intervention
    scores: HostScores
    merit: tuple[float, float]


def run(
    evaluator: search.Evaluator,
    interventions: Sequence[Intervention],
    validation: np.ndarray,
    test: np.ndarray | None = None,
    *,
    objective: str = "accuracy",
    order: str = "best_first",
    min_gain: float = 1e-5,
    max_cuts: int | None = None,
    seed: int = 0,
    samples: int = 2000,
) -> search.Outcome:
    """Compose single cuts from `interventions`; the test examples see the result once.

    order best_first looks at all matrices and takes the best move of all; its first
    round is the grid, so it never ends below the best single cut. last_first visits the
    matrices from the top of the network down and takes the best move at each, sweep
    after sweep; should it end below the best single cut met on the way, it goes back there.
    Rows hold the whole path with action (start, accept, roll back, refuse, return) and
    validation/METRIC; the last row is the result with its test/METRIC.
    """
    if order not in ORDERS:
        raise ValueError(f"order {order!r}: expected {' or '.join(ORDERS)}")
    started, spent = time.perf_counter(), evaluator.spent
    choices = _by_matrix(evaluator, interventions)
    visits = [list(choices)] if order == "best_first" else [[key] for key in reversed(choices)]
    weights = evaluator.weights(validation)

    def state_of(intervention: Intervention, scores: HostScores) -> _State:
        stacked = {name: values[None] for name, values in scores.items()}
        return _State(intervention, scores, comparison.merit(stacked, weights, objective)[0])

    state = state_of(search.NOTHING, evaluator.full(validation))
    path = [("start", state)]
    best_single = state
    while True:
        before = state
        for keys in visits:
            neighbours = [
                state_of(*found)
                for key in keys
                for found in _neighbours(
                    evaluator, state.intervention, key, choices[key], validation, max_cuts
                )
            ]
            if not neighbours:
                continue
            best = max(neighbours, key=lambda s: s.merit)
            singles = [s for s in neighbours if len(s.intervention.cuts) == 1]
            best_single = max([best_single, *singles], key=lambda s: s.merit)
            if _better(best, state, min_gain):
                fewer = len(best.intervention.cuts) < len(state.intervention.cuts)
                path.append(("roll back" if fewer else "accept", best))
                state = best
            else:
                path.append(("refuse", best))
        if state is before and not _better(best_single, state, min_gain):
            break
        if state is before:
            state = best_single
            path.append(("return", state))
    path.append(("stop", state))

    rows = _rows(path, weights, seed=seed, samples=samples)
    if test is not None:
        both = [evaluator.full(test), evaluator.full(test, state.intervention)]
        scores = {name: np.stack([s[name] for s in both]) for name in both[0]}
        rows[0], rows[-1] = (
            row | figures
            for row, figures in zip(
                (rows[0], rows[-1]),
                comparison.summarise(
                    scores,
                    both[0],
                    evaluator.weights(test),
                    prefix="test/",
                    seed=seed,
                    samples=samples,
                ),
                strict=True,
            )
        )
    return search.Outcome(
        state.intervention,
        rows,
        evaluator.spent - spent,
        time.perf_counter() - started,
        _warning(path, weights, objective, seed=seed, samples=samples),
    )


def _neighbours(
    evaluator: search.Evaluator,
    intervention: Intervention,
    key: Key,
    cuts: Sequence[Cut],
    validation: np.ndarray,
    max_cuts: int | None,
) -> list[tuple[Intervention, HostScores]]:
    """Every state one move away at this matrix, with its scores."""
    current = {(cut.layer, cut.matrix): cut for cut in intervention.cuts}
    matrices = evaluator.model.matrices
    rest = search.without(intervention, [key])
    related = {(key[0], part) for part in matrices[key].parts}
    related |= {k for k in current if k[0] == key[0] and key[1] in matrices[k].parts}
    if related & set(current) or (max_cuts is not None and len(rest.cuts) >= max_cuts):
        return []
    found = [(rest, evaluator.full(validation, rest))] if key in current else []
    others = [cut for cut in cuts if cut != current.get(key)]
    if others:
        scores = evaluator.evaluate([Intervention((c,)) for c in others], validation, rest)
        for index, cut in enumerate(others):
            one = {name: values[index] for name, values in scores.items()}
            found.append((Intervention((*rest.cuts, cut)), one))
    return found


def _better(new: _State, old: _State, min_gain: float) -> bool:
    gains = new.merit[0] - old.merit[0], new.merit[1] - old.merit[1]
    return gains[0] > min_gain or (gains[0] >= 0 and gains[1] > min_gain)


def _by_matrix(
    evaluator: search.Evaluator, interventions: Sequence[Intervention]
) -> dict[Key, list[Cut]]:
    """Candidate cuts of each matrix, matrices from the bottom of the network up."""
    choices: dict[Key, list[Cut]] = {}
    for intervention in interventions:
        cuts = evaluator.expanded(intervention).cuts
        if len(cuts) != 1:
            raise ValueError(
                f"intervention {intervention}: greedy composes cuts of one matrix each"
            )
        choices.setdefault((cuts[0].layer, cuts[0].matrix), []).append(cuts[0])
    return {key: choices[key] for key in evaluator.model.matrices if key in choices}


def _stacked(path: Sequence[tuple[str, _State]]) -> HostScores:
    names = path[0][1].scores
    return {name: np.stack([state.scores[name] for _, state in path]) for name in names}


def _rows(
    path: Sequence[tuple[str, _State]], weights: np.ndarray, *, seed: int, samples: int
) -> list[dict[str, object]]:
    figures = comparison.summarise(
        _stacked(path), path[0][1].scores, weights, prefix="validation/", seed=seed, samples=samples
    )
    return [
        {"step": step, "action": action, "intervention": str(state.intervention) or "full", **row}
        for step, ((action, state), row) in enumerate(zip(path, figures, strict=True))
    ]


def _warning(
    path: Sequence[tuple[str, _State]],
    weights: np.ndarray,
    objective: str,
    *,
    seed: int,
    samples: int,
) -> str | None:
    if not path[-1][1].intervention.cuts:
        return f"no composition improves {objective} on validation"
    return comparison.within_noise(
        _stacked(path[1:]),
        path[0][1].scores,
        weights,
        len(path) - 2,
        objective,
        seed=seed,
        samples=samples,
    )
