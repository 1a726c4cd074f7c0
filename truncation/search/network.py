"""What a network offers so that its matrices can be searched, pruned and taken apart.

A Network knows its architecture and how answers are scored; parameters and examples are
arguments, so one Network serves every checkpoint and every set of examples. It owns its
compilation: its methods run on the host and call compiled pieces, one compilation per piece
and shape, whichever layer or candidate asks. They are pure, differentiable and fit for vmap.

    x = network.embed(params, batch)                      stream before layer 0
    x = network.layers(params, 0, 1, x, batch)            ... before layer 1
    x = network.layers(params, 1, network.last, x, batch) ... before layer `last`
    scores = network.finish(params, x, batch)

A network with `stops` also halts in front of any matrix and goes on from any output:

    entry = network.enter(params, key, x, batch)          x is the stream before layer key[0]
    scores = network.leave(params, key, entry.inputs @ W, entry.rest, batch)

Then nothing below a matrix is computed again while its candidates are evaluated, and its
inputs and output gradients, which eigenpruning needs, come for free. Any other model is a
Whole: one function from parameters and examples to scores.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from truncation.address import Matrices, Params
from truncation.notation import Key

Data = Any
Stream = Any
Scores = dict[str, Float[Array, "*outputs examples answers"]]
Probabilities = Callable[[Params, Stream, Data], Float[Array, "examples answers classes"]]


class Entry(NamedTuple):
    """A forward pass stopped in front of one matrix.

    inputs are what the matrix really multiplies (after any norm or nonlinearity); valid is
    False at padding, which counts in no mean; rest is whatever `leave` needs to go on.
    """

    inputs: Float[Array, "examples positions d_in"]
    valid: Bool[Array, "examples positions"]
    rest: Any


@runtime_checkable
class Network(Protocol):
    """See the head of this file.

    Scores are {"loss": ..., "accuracy": ..., any other name: ...}, each [examples, answers] and
    finite at padding too. loss is in nats and differentiable with respect to params; accuracy
    is 0 or 1 for one answer.
    """

    @property
    def matrices(self) -> Matrices:
        """Where each matrix lives, keys ordered from the bottom layer up."""
        ...

    @property
    def last(self) -> int:
        """Index of the last layer, which `finish` runs."""
        ...

    @property
    def stops(self) -> bool:
        """Whether `enter` and `leave` work."""
        ...

    @property
    def description(self) -> str:
        """All that scores depend on besides params and examples: part of every cache's key."""
        ...

    def below(self, params: Params, layer: int) -> Any:
        """The parameters that decide the stream before `layer`, as any pytree."""
        ...

    def arrange(self, data: Data, size: int) -> Int[np.ndarray, " examples"]:
        """The order in which these examples are best cut into batches of `size`."""
        ...

    def pack(self, batches: Sequence[Data]) -> list[Data]:
        """The same examples as the network would rather have them, for scores alone.

        What comes back goes in wherever `batch` does and gives the same scores, but what `enter`
        says of it need not be by example. Batches of one shape stay of one shape.
        """
        ...

    def embed(self, params: Params, batch: Data) -> Stream:
        """The stream before layer 0."""
        ...

    def layers(self, params: Params, start: int, stop: int, stream: Stream, batch: Data) -> Stream:
        """The stream before layer `stop`, from that before layer `start`."""
        ...

    def finish(self, params: Params, stream: Stream, batch: Data) -> Scores:
        """Scores from the stream before layer `last`."""
        ...

    def enter(self, params: Params, key: Key, stream: Stream, batch: Data) -> Entry:
        """What a matrix reads, from the stream before its layer."""
        ...

    def leave(self, params: Params, key: Key, outputs: Array, rest: Any, batch: Data) -> Scores:
        """Scores as if matrix `key` had returned `outputs` [examples, positions, d_out].

        outputs come before any bias of the matrix's own.
        """
        ...

    def leave_each(
        self, params: Params, key: Key, outputs: Iterable[Array], rest: Any, batch: Data
    ) -> list[Scores]:
        """`leave` of one output after another, made when asked for.

        Scores of several may come as one, with an axis of outputs in front: what ends a forward
        pass is seldom the same work for each as for all.
        """
        ...

    @property
    def probabilities(self) -> Probabilities | None:
        """(params, stream before layer `last`, batch) -> [examples, answers, classes]."""
        ...


def in_order(data: Data) -> Int[np.ndarray, " examples"]:
    """Examples as they are, for networks to which their order is all one."""
    return np.arange(len(jax.tree.leaves(data)[0]))


def stream_before(network: Network, params: Params, layer: int, batch: Data) -> Stream:
    """The stream before a layer, from the very beginning; search.streams keeps them."""
    return network.layers(params, 0, layer, network.embed(params, batch), batch)


def streams(network: Network, params: Params, batch: Data) -> Iterator[Stream]:
    """The stream before every layer, one after the other, and that after the last."""
    stream = network.embed(params, batch)
    yield stream
    for index in range(network.last + 1):
        stream = network.layers(params, index, index + 1, stream, batch)
        yield stream


def scores(network: Network, params: Params, batch: Data) -> Scores:
    """The whole forward pass."""
    return network.finish(params, stream_before(network, params, network.last, batch), batch)


class Whole:
    """A network known by one function from parameters and examples to scores.

    It has no layer to stop at, so every candidate is a full pass:

        network = Whole(matrices, lambda params, batch: {"loss": ..., "accuracy": ...})
    """

    stops = False
    last = 0

    def __init__(
        self,
        matrices: Matrices,
        scores: Callable[[Params, Data], Scores],
        *,
        probabilities: Callable[[Params, Data], Array] | None = None,
        description: str = "",
    ):
        """Both functions are pure and jit-able; they are compiled once."""
        self.matrices = matrices
        self.description = description
        self._scores = jax.jit(scores)
        self.probabilities: Probabilities | None = None
        if probabilities is not None:
            law = jax.jit(probabilities)
            self.probabilities = lambda params, stream, batch: law(params, batch)

    def below(self, params: Params, layer: int) -> Any:
        """Nothing: there is no stream."""
        return ()

    def arrange(self, data: Data, size: int) -> Int[np.ndarray, " examples"]:
        """As they are."""
        return in_order(data)

    def pack(self, batches: Sequence[Data]) -> list[Data]:
        """As they are."""
        return list(batches)

    def embed(self, params: Params, batch: Data) -> Stream:
        """No stream."""
        return None

    def layers(self, params: Params, start: int, stop: int, stream: Stream, batch: Data) -> Stream:
        """No stream."""
        return None

    def finish(self, params: Params, stream: Stream, batch: Data) -> Scores:
        """The function itself."""
        return self._scores(params, batch)

    def enter(self, params: Params, key: Key, stream: Stream, batch: Data) -> Entry:
        """Raises ValueError."""
        raise ValueError("stops: this needs a network that can stop in front of a matrix")

    def leave(self, params: Params, key: Key, outputs: Array, rest: Any, batch: Data) -> Scores:
        """Raises ValueError."""
        raise ValueError("stops: this needs a network that can go on from a matrix")

    def leave_each(
        self, params: Params, key: Key, outputs: Iterable[Array], rest: Any, batch: Data
    ) -> list[Scores]:
        """Raises ValueError."""
        return [self.leave(params, key, one, rest, batch) for one in outputs]
