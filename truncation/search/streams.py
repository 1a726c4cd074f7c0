"""Residual streams below a cut, kept so that they are computed once.

With x^l(params, batch) the stream that enters layer l and params' edited in layers l and above,

    x^l(params', batch) = x^l(params, batch),

because x^l depends on Network.below(params, l) alone. All candidates of a search that cuts layer l
or above begin from the one kept; and x^l is made from the highest x^k known, k < l, by layers
k, ..., l - 1. A stream is known by its batch and layer, and is used only while the arrays of
`below` are the very same objects: an edit makes new ones, so a stale stream is never used.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from truncated_weights.truncation.address import Params
from truncated_weights.truncation.search.examples import WeightedBatch
from truncated_weights.truncation.search.network import Network, Stream

DEFAULT_MEMORY = 2**30


class Streams:
    """Streams before each layer of one network on one set of examples.

    limit bounds what is held, in bytes. on_host keeps it in the host's memory, which costs the
    device a wait for each stream, but leaves it room. When full, a batch gives up its lower
    streams for a higher one; a search that goes up the network then needs one per batch.
    """

    def __init__(self, network: Network, *, limit: int = DEFAULT_MEMORY, on_host: bool = False):
        """Nothing is computed before it is asked for."""
        self.network, self.limit, self.on_host = network, limit, on_host
        self._known: dict[bytes, dict[int, tuple[list[Any], Any]]] = {}
        self.held = 0
        self.layers_run = 0

    def empty(self) -> "Streams":
        """Streams of the same network within the same bounds, none kept yet: for other examples."""
        return Streams(self.network, limit=self.limit, on_host=self.on_host)

    def before(self, params: Params, layer: int, batch: WeightedBatch) -> Stream:
        """The stream that enters `layer`, computed from the highest layer at which it is kept."""
        start, x = self._highest(params, layer, batch)
        if start == 0:
            x = self.network.embed(params, batch.data)
        for index in range(start, layer):
            x = self.network.layers(params, index, index + 1, x, batch.data)
            self.layers_run += 1
            self._keep(params, index + 1, batch, x)
        return x

    def _highest(self, params: Params, layer: int, batch: WeightedBatch) -> tuple[int, Stream]:
        known = self._known.get(batch.name, {})
        for index in range(layer, 0, -1):
            if index in known:
                arrays, x = known[index]
                now = self._below(params, index)
                if len(arrays) == len(now) and all(map(_same, arrays, now)):
                    return index, jax.tree.map(jnp.asarray, x) if self.on_host else x
        return 0, None

    def _keep(self, params: Params, layer: int, batch: WeightedBatch, x: Stream) -> None:
        known = self._known.setdefault(batch.name, {})
        if layer in known:
            self.held -= _bytes(known.pop(layer)[1])
        size = _bytes(x)
        for lower in sorted(known):
            if self.held + size <= self.limit:
                break
            self.held -= _bytes(known.pop(lower)[1])
        if self.held + size <= self.limit:
            kept = jax.tree.map(np.asarray, x) if self.on_host else x
            known[layer] = (self._below(params, layer), kept)
            self.held += size

    def _below(self, params: Params, layer: int) -> list[Any]:
        return jax.tree.leaves(self.network.below(params, layer))


def _same(one: Any, other: Any) -> bool:
    return one is other


def _bytes(x: Stream) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(x))
