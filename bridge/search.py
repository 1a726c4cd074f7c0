"""Pythia as truncation/ wants a model: stopped in front of any matrix and gone on from there.

What a candidate costs is what its cut changes: the streams below are kept (prefixes), the
matrix's inputs are turned into coordinates once for all rho, attention's output is kept
where only the feed-forward changes, the last layer runs only where logits are needed, and
the unembedding there too. q_proj, k_proj and v_proj are matrices of their own.

The functions of the Model run on the host and call compiled pieces (one layer, the part of a
layer above a cut, the scoring): a piece is compiled once per shape and serves all layers,
where one program per matrix would be compiled hundreds of times.

In the last layer the inputs of q_proj, out_proj, fc_in and fc_out exist only at the
positions that predict answer tokens, because nothing else depends on them; statistics of
inputs (eigenpruning's mean) are over those.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from bridge import network as model
from bridge import scoring
from bridge.checkpoint import Checkpoint
from bridge.config import Config
from bridge.encoding import Batch, Encoded
from bridge.network import Context
from bridge.prefixes import Prefixes
from bridge.scoring import flat, outer_params
from truncation.address import Key, Matrices, Params, at_path
from truncation.intervention import GROUPS, Intervention
from truncation.search.evaluator import Evaluator
from truncation.search.model import Entry, Model
from truncation.search.table import Cache

MATRICES = GROUPS["all"]
_EVERYWHERE = ("k_proj", "v_proj")
_EDITED_KEPT = 4

At = Int[Array, "rows answers"] | None


def matrices(config: Config) -> Matrices:
    """The addresses of all six matrices of every layer, from the bottom up."""
    return {
        (layer, name): at_path("layers", layer, name)
        for layer in range(config.num_layers)
        for name in MATRICES
    }


def search_model(
    config: Config,
    encoded: Encoded,
    *,
    dtype: str | None = None,
    memory: int = scoring.DEFAULT_MEMORY,
    prefix_memory: int = scoring.DEFAULT_MEMORY,
    prefixes_on_host: bool = False,
) -> Model:
    """The examples and the pieces of the network, for Searcher.

    memory bounds, roughly, the activations of one batch; prefix_memory the streams kept.
    dtype is that of the activations (default: that of the parameters).
    """
    network = _Network(config, encoded, dtype, prefix_memory, prefixes_on_host)
    return Model(
        matrices=matrices(config),
        examples=encoded.batch,
        weights=np.ones((len(encoded), 1), np.float32),
        scores=network.scores,
        enter=network.enter,
        leave=network.leave,
        probabilities=network.probabilities,
        batch_size=scoring.batch_size(config, encoded.batch, memory=memory, dtype=dtype),
    )


class Searcher(Evaluator):
    """The Evaluator of truncation/ for a search_model, whose pieces are compiled already."""

    def __init__(self, search_model: Model, params: Params, **keywords: Any):
        """Keywords are those of Evaluator."""
        super().__init__(search_model, params, **keywords)
        self._edited: dict[str, Params] = {}

    def compiled(self, name: Any, function: Callable[..., Any]) -> Callable[..., Any]:
        """The decomposition compiled; everything else as it is."""
        return super().compiled(name, function) if name == "svd" else function

    def fork(
        self,
        *,
        model: Model | None = None,
        params: Params | None = None,
        cache: Cache | None = None,
    ) -> "Searcher":
        """As Evaluator's; model must be a search_model too."""
        other = super().fork(model=model, params=params, cache=cache)
        found = Searcher(other.model, other.params, together=self.together, cache=cache)
        found.progress = self.progress
        found._compiled, found._decompositions = other._compiled, other._decompositions
        return found

    def edited(self, intervention: Intervention) -> Params:
        """As Evaluator's, but equal interventions give the same objects: streams are found."""
        name = str(intervention)
        if name not in self._edited:
            while len(self._edited) >= _EDITED_KEPT:
                del self._edited[next(iter(self._edited))]
            self._edited[name] = super().edited(intervention)
        return self._edited[name]


def searcher(
    checkpoint: Checkpoint,
    encoded: Encoded,
    *,
    dtype: str | None = None,
    memory: int = scoring.DEFAULT_MEMORY,
    prefix_memory: int = scoring.DEFAULT_MEMORY,
    prefixes_on_host: bool = False,
    together: int | None = None,
    cache: Cache | None = None,
    progress: bool = False,
) -> Searcher:
    """Everything that the selection rules of truncation/ need, sized by memory in bytes.

    together is how many candidates of a matrix run side by side: by default as many as
    memory allows beside one batch, and one on a CPU, whose caches a second one would only
    crowd.
    """
    config = checkpoint.config
    found = search_model(
        config,
        encoded,
        dtype=dtype,
        memory=memory,
        prefix_memory=prefix_memory,
        prefixes_on_host=prefixes_on_host,
    )
    assert found.batch_size is not None
    one = scoring.bytes_per_example(config, encoded.batch, dtype) * found.batch_size
    # A candidate that cuts several matrices holds their edited copies too.
    feed_forward = 4 * 2 * config.d_model * config.d_ff
    if together is None:
        room = min(memory // one, memory // feed_forward)
        together = 1 if jax.default_backend() == "cpu" else max(1, room)
    return Searcher(found, checkpoint.params, together=together, cache=cache, progress=progress)


class _Network:
    """The functions of the Model, over one configuration and one set of kept streams."""

    def __init__(
        self, config: Config, encoded: Encoded, dtype: str | None, limit: int, on_host: bool
    ):
        self.config, self.dtype, self.vocabulary = config, dtype, encoded.vocabulary
        self.last = config.num_layers - 1
        self.prefixes = Prefixes(config, dtype, limit=limit, on_host=on_host)

    def scores(self, params: Params, batch: Batch) -> dict[str, Array]:
        x, context = self._before(params, self.last, batch), _context(batch)
        x = model.layer(params["layers"][self.last], self.config, x, context, _at(batch))
        return self._finish(params, x, batch)

    def enter(self, params: Params, key: Key, batch: Batch) -> Entry:
        layer, name = key
        x = self._before(params, layer, batch)
        at = _at(batch) if layer == self.last else None
        inputs, rest = _enter(params["layers"][layer], self.config, name, x, _context(batch), at)
        everywhere = at is None or name in _EVERYWHERE
        valid = jnp.asarray(batch.mask if everywhere else batch.counted)
        examples = len(valid)
        return Entry(
            inputs.reshape(examples, -1, inputs.shape[-1]), valid.reshape(examples, -1), rest
        )

    def leave(
        self, params: Params, key: Key, outputs: Array, rest: Any, batch: Batch
    ) -> dict[str, Array]:
        layer, name = key
        context, at = _context(batch), _at(batch)
        rows = context.mask.shape[0]
        outputs = outputs.reshape(rows, -1, outputs.shape[-1])
        here = at if layer == self.last else None
        x = _leave(params["layers"][layer], self.config, name, outputs, rest, context, here)
        for index in range(layer + 1, self.last + 1):
            here = at if index == self.last else None
            x = model.layer(params["layers"][index], self.config, x, context, here)
        return self._finish(params, x, batch)

    def probabilities(self, params: Params, batch: Batch) -> Array:
        x = scoring.last_stream(params, self.config, batch, self.dtype)
        found = scoring.first_probabilities(
            outer_params(params), self.config, x, batch, self.vocabulary
        )
        return found[:, None]

    def _before(self, params: Params, layer: int, batch: Batch) -> Array:
        return self.prefixes.before(params, layer, batch)

    def _finish(self, params: Params, x: Array, batch: Batch) -> dict[str, Array]:
        return scoring.finish(outer_params(params), self.config, x, batch, self.vocabulary)


def _at(batch: Batch) -> Array:
    return jnp.asarray(flat(batch.at))


def _context(batch: Batch) -> Context:
    return model.context_of(jnp.asarray(flat(batch.mask)))


@functools.partial(jax.jit, static_argnames=("config", "name"))
def _enter(
    layer: Any, config: Config, name: str, x: Array, context: Context, at: At
) -> tuple[Float[Array, "rows positions d_in"], Any]:
    """What a matrix of the layer reads, and what the layer needs besides its output."""
    here = x if at is None else model.gather(x, at)
    normed = model.layer_norm(layer["attn_norm"], x, config.layer_norm_eps)
    if name in _EVERYWHERE:
        return normed, (x,)
    if name == "q_proj":
        return normed if at is None else model.gather(normed, at), (x,)
    if name == "out_proj":
        return model.mixed_values(layer, config, normed, context, at), (x,)
    attended = model.attention(layer, config, x, context, at)
    stream = here if config.parallel_residual else here + attended
    if name == "fc_in":
        inputs = model.layer_norm(layer["mlp_norm"], stream, config.layer_norm_eps)
    else:
        inputs = model.mlp_hidden(layer, config, stream)
    return inputs, (here, attended)


@functools.partial(jax.jit, static_argnames=("config", "name"))
def _leave(
    layer: Any, config: Config, name: str, outputs: Array, rest: Any, context: Context, at: At
) -> Float[Array, "rows positions d_model"]:
    """The stream after the layer whose matrix `name` returns `outputs`, before its bias.

    A matrix of rank zero whose bias is the output, position by position, gives any output
    whatever its input; what only fed the matrix is then dead code to the compiler.
    """
    linear = layer[name]
    d_out = outputs.shape[-1]
    kernel = linear.get("kernel", linear.get("kernel_in"))
    fixed = {
        "kernel_in": jnp.zeros((kernel.shape[0], 0), outputs.dtype),
        "kernel_out": jnp.zeros((0, d_out), outputs.dtype),
        "bias": outputs + jnp.broadcast_to(linear["bias"].astype(outputs.dtype), outputs.shape),
    }
    layer = {**layer, name: fixed}
    if name in GROUPS["mlp"]:
        here, attended = rest
        return model.after_attention(layer, config, here, attended)
    return model.layer(layer, config, *rest, context, at)
