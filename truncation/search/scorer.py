"""Scores of many candidates on one network: what all selection rules share.

A Scorer holds a network, its parameters and its examples together with what is kept between
candidates, each an object of its own: the decompositions, the streams below a cut, the cost, and
a cache on disk. What is left here is the order of work: candidates by the matrices they touch,
every distinct mask once, one family dispatched while the one before is fetched.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from truncated_weights.truncation import finite
from truncated_weights.truncation.address import Params
from truncated_weights.truncation.editing import families
from truncated_weights.truncation.metrics import Moments
from truncated_weights.truncation.notation import NOTHING, Cut, Intervention, Key, without
from truncated_weights.truncation.search import passes, statistics
from truncated_weights.truncation.search.cache import Cache, digest, digest_of_arrays
from truncated_weights.truncation.search.cost import Cost
from truncated_weights.truncation.search.decompositions import Decompositions
from truncated_weights.truncation.search.examples import Examples, HostScores, WeightedBatch, gather
from truncated_weights.truncation.search.network import Network, Stopped, streams
from truncated_weights.truncation.search.streams import Streams

Indices = Int[np.ndarray, " _"]


@runtime_checkable
class ExtraScores(Protocol):
    """Scores [examples, answers] by name, of any parameters; description tells them apart."""

    @property
    def description(self) -> str:
        """All that these scores depend on besides parameters, examples and network."""
        ...

    def __call__(self, params: Params, indices: Indices) -> HostScores:
        """Of these examples, in the order of their indices."""
        ...


class Scorer:
    """Scores of interventions on `network` at `params`.

    together: how many candidates of a matrix are one vectorised call; more needs memory in
    proportion and pays on accelerators. streams: where streams are kept, and how many bytes of
    them. cache: where scores are kept, so that a killed search continues. progress: a bar on a
    terminal. extra_scores: scores that no single pass gives, from parameters and indices, such as
    marks of generated answers; they are made of every candidate and are reported with the others.
    """

    def __init__(
        self,
        network: Network,
        params: Params,
        examples: Examples,
        *,
        together: int = 1,
        streams: Streams | None = None,
        cache: Cache | None = None,
        progress: bool = False,
        extra_scores: ExtraScores | None = None,
    ):
        """Nothing is computed before it is asked for."""
        self.network, self.params, self.examples = network, params, examples
        self.together, self.cache, self.progress = together, cache, progress
        self.extra_scores = extra_scores
        self.streams = streams or Streams(network)
        self.decompositions = Decompositions(network.matrices, params)
        self.cost = Cost()
        self._digests: dict[bytes, str] = {}
        self._packed: tuple[bytes, list[WeightedBatch], Indices] | None = None

    def fresh(self, *, cache: Cache | None = None) -> "Scorer":
        """The same with a cost and a cache of its own; decompositions and streams are shared."""
        other = self.on(cache=cache)
        other.decompositions, other.streams = self.decompositions, self.streams
        other._digests = self._digests
        return other

    def measured(self, moments: Mapping[Key, Moments]) -> "Scorer":
        """The same with moments of what matrices see, for cuts in a metric of the data."""
        other = self.fresh(cache=self.cache)
        other.decompositions = Decompositions(self.network.matrices, self.params, moments)
        other.decompositions.share(self.decompositions)
        return other

    def on(
        self,
        *,
        params: Params | None = None,
        examples: Examples | None = None,
        cache: Cache | None = None,
    ) -> "Scorer":
        """The same network with other parameters of the same structure, or on other examples."""
        other = Scorer(
            self.network,
            self.params if params is None else params,
            examples or self.examples,
            together=self.together,
            streams=self.streams.empty() if examples else self.streams,
            cache=cache,
            progress=self.progress,
            extra_scores=self.extra_scores if examples is None else None,
        )
        if params is None:
            other.decompositions = self.decompositions
        return other

    def expanded(self, intervention: Intervention) -> Intervention:
        """The same intervention with its groups replaced by the matrices they stand for."""
        return Intervention(tuple(self.decompositions.resolve(intervention).values()))

    def weights(self, indices: Indices) -> Float[np.ndarray, "chosen answers"]:
        """Weights of the answers of these examples."""
        return np.asarray(self.examples.weights)[indices]

    def mean(self, scores: HostScores, indices: Indices) -> dict[str, np.ndarray]:
        """Weighted mean of every score over examples and answers."""
        weights = self.weights(indices)
        return {name: statistics.weighted_mean(v, weights) for name, v in scores.items()}

    def stop(self, params: Params, key: Key, batch: WeightedBatch) -> Stopped:
        """What a matrix reads on a batch; ValueError where the network cannot stop."""
        stream = self.streams.before(params, min(key[0], self.network.last), batch)
        return self.network.stop(params, key, stream, batch.data)

    def full(self, indices: Indices, given: Intervention = NOTHING) -> HostScores:
        """Scores [examples, answers] of the model after `given`, which may be nothing.

        Raises NotFiniteError where it is nothing and the model's scores are not finite: no cut
        can be compared with them.
        """
        scores = self.of_params(self.decompositions.edited(given), indices)
        if not given.cuts and finite.lost(scores, self.weights(indices)):
            raise self._refusal(indices)
        return scores

    def of_params(self, params: Params, indices: Indices) -> HostScores:
        """Scores [examples, answers] of any parameters of this structure.

        All of them are NaN where one is not finite.
        """
        scores = self._of_params(params, indices)
        return finite.void(scores, self.weights(indices))

    def _refusal(self, indices: Indices) -> finite.NotFiniteError:
        """What to raise of a model that is not finite on these examples, and where it began."""
        scores, counted = self._of_params(self.params, indices), self.weights(indices) > 0
        bad = [np.any(~np.isfinite(v) & counted, axis=1) for v in scores.values()]
        which = np.flatnonzero(np.any(bad, axis=0))
        batch = self.examples.batches(np.asarray(indices)[which[:1]])[0]
        where = finite.place(streams(self.network, self.params, batch.data))
        name = getattr(self.network, "name", "the model")
        return finite.NotFiniteError(
            f"{name}: scores of {len(which)} of {len(indices)} examples are not finite; {where}"
        )

    def _of_params(self, params: Params, indices: Indices) -> HostScores:
        self.cost.forward(len(indices))
        last = self.network.last
        batches, places = self._batches(indices)
        found = [
            [self.network.finish(params, self.streams.before(params, last, batch), batch.data)]
            for batch in batches
        ]
        scores = {name: values[0] for name, values in gather(found, places).items()}
        return scores if self.extra_scores is None else scores | self.extra_scores(params, indices)

    def evaluate(
        self,
        interventions: Sequence[Intervention],
        indices: Indices,
        given: Intervention = NOTHING,
    ) -> HostScores:
        """Scores [interventions, examples, answers], in the order given.

        given is applied first; where an intervention touches a matrix that `given` cuts
        too, the intervention replaces that cut. Of an intervention that left the finite numbers
        in one score all are NaN.
        """
        if not interventions:
            raise ValueError("interventions: none to evaluate")
        resolved = [self.decompositions.resolve(intervention) for intervention in interventions]
        self.cost.forward(len(indices), passes=len(interventions))
        given = self.expanded(given)

        found: dict[str, list[np.ndarray]] = {}
        order: list[int] = []
        pending: tuple[Callable[[], HostScores], int] | None = None
        with tqdm(
            total=len(interventions), unit="candidate", disable=None if self.progress else True
        ) as bar:
            # A family is fetched only after the next one was dispatched: the device never waits.
            for members in [*families(resolved).values(), []]:
                launched = None
                if members:
                    cuts = [resolved[index] for index in members]
                    launched = self._family(cuts, indices, given), len(members)
                    order.extend(members)
                if pending is not None:
                    for name, values in pending[0]().items():
                        found.setdefault(name, []).append(values)
                    bar.update(pending[1])
                pending = launched
        restore = np.argsort(order)
        scores = {name: np.concatenate(parts)[restore] for name, parts in found.items()}
        return finite.void(scores, self.weights(indices))

    def _batches(self, indices: Indices) -> tuple[list[WeightedBatch], Indices]:
        """These examples as the network would rather have them, and where each of them is then.

        Kept for the next family.
        """
        indices = np.asarray(indices)
        name = indices.tobytes()
        if self._packed is None or self._packed[0] != name:
            size, order = self.examples.size(len(indices)), np.arange(len(indices))
            if size < len(indices):
                order = self.network.arrange(self.examples.select(indices), size)
            plain = self.examples.batches(indices[order])
            packed = self.network.pack([batch.data for batch in plain])
            # A name of their own: streams of what is packed have another shape.
            named = [
                batch if data is batch.data else batch._replace(data=data, name=b"p" + batch.name)
                for batch, data in zip(plain, packed, strict=True)
            ]
            self._packed = name, named, np.argsort(order)
        return self._packed[1:]

    def _family(
        self, cuts: Sequence[Mapping[Key, Cut]], indices: Indices, given: Intervention
    ) -> Callable[[], HostScores]:
        """Dispatch candidates that cut the same matrices; the result fetches their scores."""
        keys = tuple(sorted(cuts[0]))
        base = without(given, keys)
        changes = [Intervention(tuple(one[key] for key in keys)) for one in cuts]
        description = None
        if self.cache is not None:
            description = self._description(indices, base, changes)
            if (stored := self.cache.get(description)) is not None:
                return lambda: stored

        components = all(cut.by_components for one in cuts for cut in one.values())
        if components:
            results, restore = self._by_components(keys, cuts, indices, base)
        else:
            results = self._by_editing(keys, changes, indices, base)
            restore = np.arange(len(cuts))

        _, places = self._batches(indices)

        def fetch() -> HostScores:
            scores = gather(results, places)
            scores = {name: values[restore] for name, values in scores.items()}
            if self.extra_scores is not None:
                for name, values in self._extra(base, changes, indices).items():
                    scores[name] = values
            if self.cache is not None and description is not None:
                self.cache.put(description, scores)
            return scores

        return fetch

    def _extra(
        self, base: Intervention, changes: Sequence[Intervention], indices: Indices
    ) -> HostScores:
        """[changes, examples, answers] of what needs more than one pass, one after another."""
        assert self.extra_scores is not None
        each = []
        for change in changes:
            edited = self.decompositions.made(Intervention((*base.cuts, *change.cuts)))
            each.append(self.extra_scores(edited, indices))
        return {name: np.stack([one[name] for one in each]) for name in each[0]}

    def _by_components(
        self,
        keys: tuple[Key, ...],
        cuts: Sequence[Mapping[Key, Cut]],
        indices: Indices,
        base: Intervention,
    ) -> tuple[list[list[passes.Chunk]], np.ndarray]:
        """Device scores [batch][chunk], and where each candidate's are among them."""
        network, params = self.network, self.decompositions.edited(base)
        masks = [np.stack([self.decompositions.mask(one[key]) for one in cuts]) for key in keys]
        edges = np.cumsum([mask.shape[1] for mask in masks])[:-1]
        # Different rho may keep the same number of components: evaluated once.
        distinct, restore = np.unique(np.concatenate(masks, axis=1), axis=0, return_inverse=True)
        chunks = passes.chunks(distinct, self.together)
        components = {key: self.decompositions.components(cuts[0][key]) for key in keys}
        start = min(keys[0][0], network.last)
        results = []
        for batch in self._batches(indices)[0]:
            stream = self.streams.before(params, start, batch)
            if len(keys) == 1 and network.can_stop:
                found = passes.one_matrix(
                    network, params, keys[0], components[keys[0]], chunks, stream, batch.data
                )
            else:
                split = [
                    dict(zip(keys, np.split(chunk, edges, axis=1), strict=True)) for chunk in chunks
                ]
                found = passes.several_matrices(
                    network, params, components, split, start, stream, batch.data
                )
            results.append(found)
        return results, restore.reshape(-1)

    def _metric(self, interventions: Sequence[Intervention]) -> dict[str, str]:
        """The digest of the moments, where one of these cuts is measured by them."""
        found = self.decompositions.moments
        if not found or not any(cut.metric for one in interventions for cut in one.cuts):
            return {}
        return {"moments": digest_of_arrays([(m.inputs, m.gradients) for m in found.values()])}

    def _by_editing(
        self,
        keys: tuple[Key, ...],
        changes: Sequence[Intervention],
        indices: Indices,
        base: Intervention,
    ) -> list[list[passes.Chunk]]:
        """Device scores [batch][candidate] of cuts that are no masks over components."""
        network, params = self.network, self.decompositions.edited(base)
        start = min(keys[0][0], network.last)
        batches, _ = self._batches(indices)
        streams = [self.streams.before(params, start, batch) for batch in batches]
        results: list[list[passes.Chunk]] = [[] for _ in batches]
        for change in changes:
            # Not decompositions.edited, which would forget `base` and with it its streams.
            edited = self.decompositions.made(Intervention((*base.cuts, *change.cuts)))
            for batch, stream, found in zip(batches, streams, results, strict=True):
                if len(keys) == 1 and network.can_stop:
                    kernel = network.matrices[keys[0]].read(edited)
                    found.append(
                        passes.other_matrix(network, params, keys[0], kernel, stream, batch.data)
                    )
                else:
                    found.append(passes.suffix(network, edited, start, stream, batch.data))
        return results

    def _description(
        self, indices: Indices, base: Intervention, changes: Sequence[Intervention]
    ) -> dict[str, object]:
        """What scores depend on: weights and examples by content, network, cuts."""
        if b"" not in self._digests:
            self._digests[b""] = digest_of_arrays(self.params)
        name = np.asarray(indices).tobytes()
        if name not in self._digests:
            chosen = self.examples.select(np.asarray(indices)), self.weights(indices)
            self._digests[name] = digest_of_arrays(chosen)
        return {
            "weights": self._digests[b""],
            "examples": self._digests[name],
            "network": digest(self.network.description),
            "given": str(base),
            "cuts": [str(change) for change in changes],
            **self._metric([base, *changes]),
            # The key that caches on disk have had from the first, so that they are still read.
            **({} if self.extra_scores is None else {"beside": self.extra_scores.description}),
        }
