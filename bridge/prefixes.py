"""Residual streams below a cut, kept so that they are computed once.

A stream is known by its batch and layer, and is good for as long as the layers below are the
very same objects: editing a layer makes a new one, so a stale stream is never used.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bridge import network as model
from bridge.config import Config
from bridge.encoding import Batch
from bridge.scoring import flat, outer_params

Stream = Float[Array, "rows length d_model"]


class Prefixes:
    """Streams before each layer, by batch, in at most `limit` bytes.

    on_host keeps them in the host's memory, which costs the device a wait for each, but
    leaves it room. When full, a batch gives up its lower streams for a higher one; a
    search that goes up the network then needs one stream per batch.
    """

    def __init__(self, config: Config, dtype: str | None, *, limit: int, on_host: bool = False):
        """Nothing is computed before it is asked for."""
        self._config, self._dtype = config, dtype
        self._limit, self._on_host = limit, on_host
        self._known: dict[bytes, dict[int, tuple[tuple[Any, ...], Any]]] = {}
        self.held = 0
        self.layers_run = 0

    def before(self, params: Any, layer: int, batch: Batch) -> Stream:
        """The stream before `layer`, from the highest layer at which it is known."""
        context = model.context_of(jnp.asarray(flat(batch.mask)))
        start, x = self._highest(params, layer, batch)
        if x is None:
            x = model.embed(outer_params(params), jnp.asarray(flat(batch.tokens)), self._dtype)
        for index in range(start, layer):
            x = model.layer(params["layers"][index], self._config, x, context)
            self.layers_run += 1
            self._keep(params, index + 1, batch, x)
        return x

    def _highest(self, params: Any, layer: int, batch: Batch) -> tuple[int, Stream | None]:
        if isinstance(batch.number, jax.core.Tracer):
            return 0, None
        known = self._known.get(_name(batch), {})
        for index in range(layer, 0, -1):
            if index in known:
                objects, x = known[index]
                if all(a is b for a, b in zip(objects, _below(params, index), strict=True)):
                    return index, jnp.asarray(x)
        return 0, None

    def _keep(self, params: Any, layer: int, batch: Batch, x: Stream) -> None:
        # Inside a transformation there are no values to keep.
        if isinstance(x, jax.core.Tracer) or isinstance(batch.number, jax.core.Tracer):
            return
        known = self._known.setdefault(_name(batch), {})
        if layer in known:
            self.held -= known.pop(layer)[1].nbytes
        for lower in sorted(known):
            if self.held + x.nbytes <= self._limit:
                break
            self.held -= known.pop(lower)[1].nbytes
        if self.held + x.nbytes <= self._limit:
            known[layer] = (_below(params, layer), np.asarray(x) if self._on_host else x)
            self.held += x.nbytes


def _name(batch: Batch) -> bytes:
    return np.asarray(batch.number).tobytes()


def _below(params: Any, layer: int) -> tuple[Any, ...]:
    return (params["embed_in"], *params["layers"][:layer])
