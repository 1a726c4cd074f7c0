"""Greedy composition of cuts that keeps only what helps on validation, and can take it back.

A state is a set of cuts, at most one per matrix. A move sets one matrix to one of its
candidate cuts or, where it is cut already, restores it. A move is accepted only if it
improves the objective (ties broken by lower loss), so the process stops by itself: the
figure rises strictly and there are finitely many states. Every matrix is always cut
from its original, so no decomposition is ever repeated.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from truncated_weights.truncation.finite import lost
from truncated_weights.truncation.notation import NOTHING, Cut, Intervention, Key, without
from truncated_weights.truncation.search import comparison
from truncated_weights.truncation.search.examples import HostScores
from truncated_weights.truncation.search.problem import (
    NO_CHOICE,
    Outcome,
    SearchProblem,
    add_figures,
    conclude,
    intervene,
)
from truncated_weights.truncation.search.scorer import Scorer

ORDERS = ("best_first", "last_first")


@dataclasses.dataclass(frozen=True, eq=False)
class _State:
    intervention: Intervention
    scores: HostScores
    merit: tuple[float, float]


def run(
    problem: SearchProblem,
    *,
    objective: str = "accuracy",
    seed: Any = 0,
    samples: int = 2000,
    order: str = "best_first",
    min_gain: float = 1e-5,
    max_cuts: int | None = None,
) -> Outcome:
    """Compose candidates, which cut one matrix each; the test examples see the result once.

    order best_first looks at all matrices and takes the best move of all; its first
    round is the grid, so it never ends below the best single cut. last_first visits the
    matrices from the top of the network down and takes the best move at each, sweep after
    sweep: cheaper, but a cut it has not met alone may be better than where it ends.
    Rows hold the whole path with action (start, accept, roll back, refuse, stop) and
    validation/METRIC; the last row is the result with its test/METRIC.
    """
    if order not in ORDERS:
        raise ValueError(f"order {order!r}: expected {' or '.join(ORDERS)}")
    scorer, validation, test = problem.scorer, problem.validation, problem.test
    mark = scorer.cost.mark()
    choices = _by_matrix(scorer, problem.candidates)
    visits = [list(choices)] if order == "best_first" else [[key] for key in reversed(choices)]
    weights = scorer.weights(validation)

    def state_of(intervention: Intervention, scores: HostScores) -> _State:
        stacked = {name: values[None] for name, values in scores.items()}
        return _State(intervention, scores, comparison.merit(stacked, weights, objective)[0])

    state = state_of(NOTHING, scorer.full(validation))
    path = [("start", state)]
    gone: list[str] = []
    moved = True
    while moved:
        moved = False
        for keys in visits:
            neighbours = [
                state_of(*found)
                for key in keys
                for found in _neighbours(
                    scorer, state.intervention, key, choices[key], validation, max_cuts
                )
            ]
            gone += [str(s.intervention) for s in neighbours if lost(s.scores, weights)]
            if not neighbours:
                continue
            best = max(neighbours, key=lambda s: s.merit)
            if not _better(best, state, min_gain):
                path.append(("refuse", best))
                continue
            fewer = len(best.intervention.cuts) < len(state.intervention.cuts)
            path.append(("roll back" if fewer else "accept", best))
            state, moved = best, True
    path.append(("stop", state))

    bootstrap = {"seed": seed, "samples": samples}
    rows = _rows(path)
    scores = _stacked(path[1:])
    add_figures(rows, scores, path[0][1].scores, weights, prefix="validation/", **bootstrap)
    if test is not None:
        before, after = scorer.full(test), scorer.full(test, state.intervention)
        stacked = {name: values[None] for name, values in after.items()}
        ends = [rows[0], rows[-1]]
        tested = scorer.weights(test)
        add_figures(ends, stacked, before, tested, prefix="test/", **bootstrap)
        gone += [str(state.intervention)] * bool(lost(after, tested))
    warning: str | None = f"no composition improves {objective} on validation"
    improves = bool(state.intervention.cuts)
    if improves:
        warning = comparison.within_noise(
            scores, path[0][1].scores, weights, len(path) - 2, objective, **bootstrap
        )
    tried = [s for _, s in path if s.intervention.cuts and str(s.intervention) not in gone]
    nearest = state if improves else max(tried, key=lambda s: s.merit, default=state)
    return conclude(
        scorer.cost,
        mark,
        nearest=(
            intervene(scorer.decompositions, nearest.intervention)
            if nearest.intervention.cuts
            else NO_CHOICE
        ),
        improves=improves,
        rows=rows,
        warning=warning,
        lost=gone,
    )


def _neighbours(
    scorer: Scorer,
    intervention: Intervention,
    key: Key,
    cuts: Sequence[Cut],
    validation: np.ndarray,
    max_cuts: int | None,
) -> list[tuple[Intervention, HostScores]]:
    """Every state one move away at this matrix, with its scores."""
    current = {(int(cut.layer), cut.matrix): cut for cut in intervention.cuts}
    matrices = scorer.network.matrices
    rest = without(intervention, [key])
    related = {(key[0], part) for part in matrices[key].parts}
    related |= {k for k in current if k[0] == key[0] and key[1] in matrices[k].parts}
    if related & set(current) or (max_cuts is not None and len(rest.cuts) >= max_cuts):
        return []
    found = [(rest, scorer.full(validation, rest))] if key in current else []
    others = [cut for cut in cuts if cut != current.get(key)]
    if others:
        scores = scorer.evaluate([Intervention((c,)) for c in others], validation, rest)
        for index, cut in enumerate(others):
            one = {name: values[index] for name, values in scores.items()}
            found.append((Intervention((*rest.cuts, cut)), one))
    return found


def _better(new: _State, old: _State, min_gain: float) -> bool:
    gains = new.merit[0] - old.merit[0], new.merit[1] - old.merit[1]
    return gains[0] > min_gain or (gains[0] >= 0 and gains[1] > min_gain)


def _by_matrix(scorer: Scorer, interventions: Sequence[Intervention]) -> dict[Key, list[Cut]]:
    """Candidate cuts of each matrix, matrices from the bottom of the network up."""
    choices: dict[Key, list[Cut]] = {}
    for intervention in interventions:
        cuts = scorer.expanded(intervention).cuts
        if len(cuts) != 1:
            raise ValueError(
                f"intervention {intervention}: greedy composes cuts of one matrix each"
            )
        choices.setdefault((int(cuts[0].layer), cuts[0].matrix), []).append(cuts[0])
    return {key: choices[key] for key in scorer.network.matrices if key in choices}


def _stacked(path: Sequence[tuple[str, _State]]) -> HostScores:
    names = path[0][1].scores
    return {name: np.stack([state.scores[name] for _, state in path]) for name in names}


def _rows(path: Sequence[tuple[str, _State]]) -> list[dict[str, Any]]:
    return [
        {"step": step, "action": action, "intervention": str(state.intervention) or "full"}
        for step, (action, state) in enumerate(path)
    ]
