"""Many interventions on one model: every SVD, prefix and compilation happens once.

The Evaluator is what all selection rules share (grid, greedy, gradient_guided,
random_matrix, eigenprune). For a candidate that cuts a single matrix, and a model
that can stop in front of it, the forward pass below is computed once, the inputs are
turned once into coordinates x U diag(s), and a candidate costs (coordinates * mask) V^T,
less what it shares with the candidate before, and the rest of the network. Other candidates
edit the parameters and run the whole model.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from truncation.intervention import (
    Cut,
    Intervention,
    Key,
    Params,
    edit,
    keep_mask,
    kept_ranks,
    parse,
    require_finite,
    resolve,
)
from truncation.search import statistics
from truncation.search.model import Batch, Model
from truncation.search.table import Cache, HostScores, digest
from truncation.spectrum import Decomposition, decompose

LASER_RHOS = ("0.9", "0.8", "0.6", "0.4", "0.2", "0.1", "0.05", "0.01", "0")
LOWER_IS_BETTER = ("loss", "p_noise")
NOTHING = Intervention(())

_EXACT = jax.lax.Precision.HIGHEST


def candidates(keys: Iterable[Key | str], rhos: Sequence[str] = LASER_RHOS) -> list[Intervention]:
    """One intervention per key and rho; a key is (layer, matrix) or text such as "1.mlp"."""
    names = [key if isinstance(key, str) else f"{key[0]}.{key[1]}" for key in keys]
    return [parse(f"{name}@{rho}") for name in names for rho in rhos]


def gain(name: str, after: Any, before: Any) -> Any:
    """after - before (numbers or arrays), signed so that more is better for this metric."""
    return before - after if name in LOWER_IS_BETTER else after - before


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a selection rule found and what it cost.

    best is NOTHING (no cuts) where leaving the model alone is best; rows are flat and go
    to table.write_csv; evaluations counts candidates times examples; warning says
    where the choice is within noise of doing nothing, None where it is not.
    """

    best: Intervention
    rows: list[dict[str, Any]]
    evaluations: int
    seconds: float
    warning: str | None = None


class Evaluator:
    """Scores of interventions on `model` at `params`.

    together: how many candidates of a matrix are one vectorised call; more needs
    memory in proportion and pays on accelerators. cache: where scores are kept, so that a
    killed search continues. progress: a bar on a terminal.

    spent counts candidates times examples, read back from the cache or not.
    """

    def __init__(
        self,
        model: Model,
        params: Params,
        *,
        together: int = 1,
        cache: Cache | None = None,
        progress: bool = False,
    ):
        self.model = model
        self.params = params
        self.together = together
        self.cache = cache
        self.progress = progress
        self.spent = 0
        self.started = time.perf_counter()
        self._decompositions: dict[Key, Decomposition] = {}
        self._compiled: dict[Any, Callable[..., Any]] = {}
        self._held: tuple[Any, list[Any]] = (None, [])

    def fork(
        self,
        *,
        model: Model | None = None,
        params: Params | None = None,
        cache: Cache | None = None,
    ) -> "Evaluator":
        """Another evaluator with a count and a cache of its own that compiles nothing again.

        model: the same network on other examples; params: other weights of the same
        structure. Decompositions are kept where the params are.
        """
        other = Evaluator(
            model or self.model,
            self.params if params is None else params,
            together=self.together,
            cache=cache,
            progress=self.progress,
        )
        other._compiled = self._compiled
        if params is None:
            other._decompositions = self._decompositions
        return other

    def decompositions(self, keys: Sequence[Key]) -> dict[Key, Decomposition]:
        """Exact SVD of each matrix, computed the first time it is asked for.

        Raises ValueError naming a matrix that holds NaN or infinity.
        """
        for key in keys:
            if key not in self._decompositions:
                require_finite(self.params, self.model.matrices, [key])
                matrix = self.model.matrices[key].read(self.params)
                self._decompositions[key] = self.compiled("svd", decompose)(matrix)
        return {key: self._decompositions[key] for key in keys}

    def compiled(self, name: Any, function: Callable[..., Any]) -> Callable[..., Any]:
        """jax.jit(function), the same one whenever this name is asked for again."""
        if name not in self._compiled:
            self._compiled[name] = jax.jit(function)
        return self._compiled[name]

    def mask(self, cut: Cut) -> np.ndarray:
        """[r] of ones where this cut of a single matrix keeps a component."""
        key = (cut.layer, cut.matrix)
        u, s, vt = self.decompositions([key])[key]
        if cut.automatic:
            return np.asarray(keep_mask(cut, s, (u.shape[0], vt.shape[1])))
        # Made on the host: a dispatch per candidate would cost as much as some suffixes.
        start, stop = kept_ranks(cut, len(s))
        ranks = np.arange(len(s))
        return ((ranks >= start) & (ranks < stop)).astype(s.dtype)

    def edited(self, intervention: Intervention) -> Params:
        """New parameters after an intervention, from the decompositions already known."""
        cuts = resolve(intervention, self.model.matrices)
        masks = {key: jnp.asarray(self.mask(cut)) for key, cut in cuts.items()}
        return edit(self.params, self.model.matrices, self.decompositions(list(cuts)), masks)

    def expanded(self, intervention: Intervention) -> Intervention:
        """The same intervention with its groups replaced by the matrices they stand for."""
        return Intervention(tuple(resolve(intervention, self.model.matrices).values()))

    def full(self, indices: np.ndarray, given: Intervention = NOTHING) -> HostScores:
        """Scores [examples, answers] of the model after `given`, which may be nothing."""
        self.spent += len(indices)
        scores = self.model_scores(self.edited(given), indices)
        return {name: values[0] for name, values in scores.items()}

    def model_scores(self, params: Params, indices: np.ndarray) -> HostScores:
        """Scores [1, examples, answers] of any parameters of this model, a full pass."""
        run = self.compiled("scores", self.model.scores)
        return _gather([[run(params, b.examples)] for b in self.model.batches(indices)], indices)

    def evaluate(
        self,
        interventions: Sequence[Intervention],
        indices: np.ndarray,
        given: Intervention = NOTHING,
    ) -> HostScores:
        """Scores [interventions, examples, answers], in the order given.

        given is applied first; where an intervention touches a matrix that `given` cuts
        too, the intervention replaces that cut.
        """
        if not interventions:
            raise ValueError("interventions: none to evaluate")
        resolved = [resolve(intervention, self.model.matrices) for intervention in interventions]
        families: dict[tuple[Key, ...], list[int]] = {}
        for index, cuts in enumerate(resolved):
            families.setdefault(tuple(sorted(cuts)), []).append(index)
        self.spent += len(interventions) * len(indices)
        given = self.expanded(given)

        found: dict[str, list[Any]] = {}
        order: list[int] = []
        pending: tuple[Callable[[], HostScores], int] | None = None
        with tqdm(
            total=len(interventions), unit="candidate", disable=None if self.progress else True
        ) as bar:
            # A family is fetched only after the next one was dispatched: the device never waits.
            for keys, members in [*families.items(), ((), [])]:
                launched = None
                if members:
                    family = [resolved[index] for index in members]
                    launched = self._family(keys, family, indices, given), len(members)
                    order.extend(members)
                if pending is not None:
                    for name, values in pending[0]().items():
                        found.setdefault(name, []).append(values)
                    bar.update(pending[1])
                pending = launched
        restore = np.argsort(order)
        return {name: np.concatenate(parts)[restore] for name, parts in found.items()}

    def _family(
        self,
        keys: tuple[Key, ...],
        cuts: Sequence[Mapping[Key, Cut]],
        indices: np.ndarray,
        given: Intervention,
    ) -> Callable[[], HostScores]:
        """Dispatch candidates that cut the same matrices; the result fetches their scores."""
        base = without(given, keys)
        description = {
            "given": str(base),
            "cuts": [str(Intervention(tuple(c[key] for key in keys))) for c in cuts],
            "examples": digest(np.asarray(indices).tolist()),
        }
        if self.cache is not None and (stored := self.cache.get(description)) is not None:
            return lambda: stored

        masks = [np.stack([self.mask(c[key]) for c in cuts]) for key in keys]
        # Different rho may keep the same number of components: evaluated once.
        ranks = [mask.shape[1] for mask in masks]
        distinct, restore = np.unique(np.concatenate(masks, axis=1), axis=0, return_inverse=True)
        chunks = [
            np.split(chunk, np.cumsum(ranks)[:-1], axis=1)
            for chunk in _chunks(distinct, self.together)
        ]
        params = self.edited(base)
        components = [self.decompositions([key])[key] for key in keys]
        batches = self.model.batches(indices)
        streams = self._streams(keys, params, batches, (str(base), str(description["examples"])))
        results = [
            self._run(keys, params, components, chunks, batch.examples, stream)
            for batch, stream in zip(batches, streams, strict=True)
        ]

        def fetch() -> HostScores:
            scores = _gather(results, indices)
            scores = {name: values[restore.reshape(-1)] for name, values in scores.items()}
            if self.cache is not None:
                self.cache.put(description, scores)
            return scores

        return fetch

    def _streams(
        self, keys: tuple[Key, ...], params: Params, batches: Sequence[Batch], name: tuple[str, str]
    ) -> list[Any]:
        """What the layers below decide, kept until another layer, state or set is asked for."""
        if len(keys) > 1 or self.model.prefix is None:
            return [None] * len(batches)
        layer = keys[0][0]
        if self._held[0] != (layer, *name):
            prefix, compiled = self.model.prefix, self.compiled
            run = compiled(("prefix", layer), lambda params, batch: prefix(params, layer, batch))
            self._held = (layer, *name), [run(params, batch.examples) for batch in batches]
        return self._held[1]

    def _run(
        self,
        keys: tuple[Key, ...],
        params: Params,
        components: list[Decomposition],
        chunks: list[list[np.ndarray]],
        batch: Any,
        stream: Any,
    ) -> list[Any]:
        if len(keys) == 1 and self.model.enter is not None:
            key = keys[0]
            enter = self.compiled(("enter", key), lambda *a: self._coordinates(key, *a))
            leave = self.compiled(("leave", key), lambda *a: self._leave(key, *a))
            coordinates, rest = enter(params, components[0], batch, stream)
            if self.together == 1:
                return self._chain(key, params, components[0], coordinates, rest, chunks, batch)
            return [leave(params, components[0].vt, coordinates, m[0], rest, batch) for m in chunks]
        whole = self.compiled(("whole", keys), lambda *a: self._whole(keys, *a))
        return [whole(params, components, masks, batch) for masks in chunks]

    def _coordinates(
        self, key: Key, params: Params, parts: Decomposition, batch: Any, stream: Any
    ) -> Any:
        assert self.model.enter is not None
        below = () if self.model.prefix is None else (stream,)
        entry = self.model.enter(params, key, batch, *below)
        coordinates = jnp.matmul(entry.inputs, parts.u, precision=_EXACT) * parts.s[None, None]
        return coordinates, entry.rest

    def _leave(
        self, key: Key, params: Params, vt: Any, coordinates: Any, masks: Any, rest: Any, batch: Any
    ) -> Any:
        def one(mask: Any) -> Any:
            assert self.model.leave is not None
            outputs = jnp.matmul(coordinates * mask[None, None], vt, precision=_EXACT)
            return self.model.leave(params, key, outputs, rest, batch)

        return jax.vmap(one)(masks)

    def _chain(
        self,
        key: Key,
        params: Params,
        parts: Decomposition,
        coordinates: Any,
        rest: Any,
        chunks: list[list[np.ndarray]],
        batch: Any,
    ) -> list[Any]:
        """One candidate after the other, each output made from the one before.

        Only the components in which neighbours differ are added or taken away, so a
        whole curve over rho costs about one product with the matrix.
        """
        leave = self.model.leave
        assert leave is not None
        add = self.compiled("add", _add_components)
        resume = self.compiled(("resume", key), lambda p, o, r, b: leave(p, key, o, r, b))
        outputs = jnp.zeros((*coordinates.shape[:-1], parts.vt.shape[1]), coordinates.dtype)
        kept, results = np.zeros(len(parts.s), parts.s.dtype), []
        for masks in chunks:
            change = masks[0][0] - kept
            kept, indices = masks[0][0], np.flatnonzero(change)
            if len(indices) > 0:
                # Few sizes, so that few functions are compiled; what fills up weighs nothing.
                size = min(len(kept), max(16, 1 << (len(indices) - 1).bit_length()))
                filled = np.resize(indices, size)
                weight = change[filled] * (np.arange(size) < len(indices))
                outputs = add(outputs, coordinates, parts.vt, filled, weight)
            results.append(resume(params, outputs, rest, batch))
        return results

    def _whole(
        self, keys: tuple[Key, ...], params: Params, components: Any, masks: Any, batch: Any
    ) -> Any:
        known = dict(zip(keys, components, strict=True))

        def one(masks: Any) -> Any:
            chosen = dict(zip(keys, masks, strict=True))
            return self.model.scores(edit(params, self.model.matrices, known, chosen), batch)

        return jax.vmap(one)(masks)

    def weights(self, indices: np.ndarray) -> np.ndarray:
        """Weights [examples, answers] of these examples."""
        return np.asarray(self.model.weights)[indices]

    def mean(self, scores: HostScores, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Weighted mean of every score over examples and answers."""
        weights = self.weights(indices)
        return {name: statistics.weighted_mean(v, weights) for name, v in scores.items()}


def _add_components(outputs: Any, coordinates: Any, vt: Any, indices: Any, weight: Any) -> Any:
    """outputs + sum over indices of weight_i coordinates_i v_i^T."""
    chosen = jnp.take(coordinates, indices, axis=-1) * weight[None, None]
    change = jnp.matmul(chosen, jnp.take(vt, indices, axis=0), precision=_EXACT)
    return outputs + change.astype(outputs.dtype)


def without(given: Intervention, keys: Sequence[Key]) -> Intervention:
    """The intervention less its cuts of these matrices; its cuts must not name groups."""
    return Intervention(tuple(c for c in given.cuts if (c.layer, c.matrix) not in keys))


def _chunks(masks: np.ndarray, together: int) -> list[np.ndarray]:
    """Rows in chunks of one size, the last filled up by repeating its first row."""
    size = min(together, len(masks))
    chunks = []
    for start in range(0, len(masks), size):
        chunk = masks[start : start + size]
        chunks.append(np.concatenate([chunk, np.repeat(chunk[:1], size - len(chunk), axis=0)]))
    return chunks


def _gather(results: list[list[Any]], indices: np.ndarray) -> HostScores:
    """Device results [batch][chunk] -> scores [candidates, examples, answers] without padding.

    Padding rows of the last chunk stay at the end; callers index the rows they asked for.
    """
    names = results[0][0].keys()

    def one(values: Any) -> np.ndarray:
        array = np.asarray(values, np.float32)
        return array[None] if array.ndim == 2 else array

    return {
        name: np.concatenate(
            [np.concatenate([one(chunk[name]) for chunk in batch]) for batch in results], axis=1
        )[:, : len(indices)]
        for name in names
    }
