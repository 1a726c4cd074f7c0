"""What a network offers so that its matrices can be searched, pruned and taken apart.

A Network knows its architecture and how answers are scored; parameters and examples are
arguments, so one Network serves every checkpoint and every set of examples. It owns its
compilation: its methods run on the host and call compiled pieces, one compilation per piece
and shape, whichever layer or candidate asks. They are pure, differentiable and fit for vmap.

x^l is the residual stream that enters layer l, and the words are those of toy/network.py:

    embed                   examples -> x^0
    layers                  x^start -> x^end
    finish                  x^last -> scores
    stop, resume            x^l -> Stopped at a matrix;   (any outputs of it, rest) -> scores

A network that `can_stop` satisfies, for every matrix W of layer l and every W' of its shape,

    stopped = stop(params, W, x^l)
    resume(params, W, stopped.inputs W', stopped.rest) = scores of params with W' in place of W,

and stopped.inputs and stopped.rest do not depend on W (a sum of products is stopped behind, not in
front: address.SummedProductAddress). So of all candidates W' of one matrix the forward below it is
run once; and dL/dh, h = stopped.inputs W, which eigenpruning needs, is the
gradient of `resume` alone. Any other model is a BlackBox: a function from parameters and examples
to scores, of which nothing inside is seen.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from truncated_weights.truncation.address import Matrices, Params
from truncated_weights.truncation.notation import Key

Data = Any
Stream = Any
Scores = dict[str, Float[Array, "*outputs examples answers"]]
Probabilities = Callable[[Params, Stream, Data], Float[Array, "examples answers classes"]]


class Stopped(NamedTuple):
    """A forward pass stopped in front of one matrix.

    inputs: what the matrix multiplies, after any norm or nonlinearity. valid: False at padding,
    which counts in no mean. rest: what `resume` needs besides, any pytree.
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
    def can_stop(self) -> bool:
        """Whether `stop`, `resume` and `resume_each` work; elsewhere they raise ValueError."""
        ...

    @property
    def description(self) -> str:
        """All that scores depend on besides params and examples: part of every cache's key."""
        ...

    def below(self, params: Params, layer: int) -> Any:
        """The parameters that the stream entering `layer` depends on, as any pytree."""
        ...

    def arrange(self, data: Data, size: int) -> Int[np.ndarray, " examples"]:
        """The order in which these examples are best cut into batches of `size`."""
        ...

    def pack(self, batches: Sequence[Data]) -> list[Data]:
        """The same examples as the network would rather have them, for scores alone.

        What comes back goes in wherever `batch` does and gives the same scores, but what `stop`
        gives of it need not be by example. Batches of one shape stay of one shape.
        """
        ...

    def embed(self, params: Params, batch: Data) -> Stream:
        """x^0, the stream that enters layer 0."""
        ...

    def layers(self, params: Params, start: int, end: int, stream: Stream, batch: Data) -> Stream:
        """The stream that enters layer `end`, from that which enters layer `start`."""
        ...

    def finish(self, params: Params, stream: Stream, batch: Data) -> Scores:
        """Scores from the stream that enters layer `last`."""
        ...

    def stop(self, params: Params, key: Key, stream: Stream, batch: Data) -> Stopped:
        """The forward in front of matrix `key`, from the stream that enters its layer key[0]."""
        ...

    def resume(self, params: Params, key: Key, outputs: Array, rest: Any, batch: Data) -> Scores:
        """Scores as if matrix `key` had returned `outputs` [examples, positions, d_out].

        outputs come before any bias of the matrix's own.
        """
        ...

    def resume_each(
        self, params: Params, key: Key, outputs: Iterable[Array], rest: Any, batch: Data
    ) -> list[Scores]:
        """`resume` from one output after another; the iterable is drawn from one by one.

        Returns scores in the order of `outputs`. Those of several neighbours may come as one
        entry with an axis of outputs in front: the unembedding of k streams together reads its
        matrix once instead of k times.
        """
        ...

    @property
    def probabilities(self) -> Probabilities | None:
        """(params, x^last, batch) -> [examples, answers, classes]; None where there are none."""
        ...


def in_order(data: Data) -> Int[np.ndarray, " examples"]:
    """The identity order 0, 1, ..., for networks whose batches cost the same in any order."""
    return np.arange(len(jax.tree.leaves(data)[0]))


def prefix(network: Network, params: Params, layer: int, batch: Data) -> Stream:
    """The stream that enters `layer`, from the examples on; search.streams keeps such streams."""
    return network.layers(params, 0, layer, network.embed(params, batch), batch)


def streams(network: Network, params: Params, batch: Data) -> Iterator[Stream]:
    """The streams that enter layers 0, 1, ..., last, one after the other, and the one after."""
    stream = network.embed(params, batch)
    yield stream
    for index in range(network.last + 1):
        stream = network.layers(params, index, index + 1, stream, batch)
        yield stream


def scores(network: Network, params: Params, batch: Data) -> Scores:
    """Scores by the whole forward: `finish` of the stream that enters layer `last`."""
    return network.finish(params, prefix(network, params, network.last, batch), batch)


class BlackBox:
    """A network of which only the function from parameters and examples to scores is known.

    It cannot stop in front of a matrix, so every candidate is a full forward:

        network = BlackBox(matrices, lambda params, batch: {"loss": ..., "accuracy": ...})
    """

    can_stop = False
    last = 0

    def __init__(
        self,
        matrices: Matrices,
        scores: Callable[[Params, Data], Scores],
        *,
        probabilities: Callable[[Params, Data], Array] | None = None,
        description: str = "",
    ):
        """scores and probabilities: pure and fit for jit; each is compiled once per shape.

        probabilities returns [examples, answers, classes]. description: as in Network.
        """
        self.matrices = matrices
        self.description = description
        self._scores = jax.jit(scores)
        self.probabilities: Probabilities | None = None
        if probabilities is not None:
            law = jax.jit(probabilities)
            self.probabilities = lambda params, stream, batch: law(params, batch)

    def below(self, params: Params, layer: int) -> Any:
        """(): no stream is known."""
        return ()

    def arrange(self, data: Data, size: int) -> Int[np.ndarray, " examples"]:
        """The identity: nothing is shared between examples."""
        return in_order(data)

    def pack(self, batches: Sequence[Data]) -> list[Data]:
        """The identity: nothing is shared between examples."""
        return list(batches)

    def embed(self, params: Params, batch: Data) -> Stream:
        """None: no stream is known."""
        return None

    def layers(self, params: Params, start: int, end: int, stream: Stream, batch: Data) -> Stream:
        """None: no stream is known."""
        return None

    def finish(self, params: Params, stream: Stream, batch: Data) -> Scores:
        """Scores by the function itself."""
        return self._scores(params, batch)

    def stop(self, params: Params, key: Key, stream: Stream, batch: Data) -> Stopped:
        """Raises ValueError."""
        raise ValueError("can_stop: this needs a network that can stop in front of a matrix")

    def resume(self, params: Params, key: Key, outputs: Array, rest: Any, batch: Data) -> Scores:
        """Raises ValueError."""
        raise ValueError("can_stop: this needs a network that can resume from a matrix")

    def resume_each(
        self, params: Params, key: Key, outputs: Iterable[Array], rest: Any, batch: Data
    ) -> list[Scores]:
        """Raises ValueError."""
        return [self.resume(params, key, one, rest, batch) for one in outputs]
