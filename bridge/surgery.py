"""A language model as a truncation Network: it stops in front of any matrix and resumes.

What a candidate costs is what its cut changes: the streams below are kept, the matrix's inputs
are turned into coordinates once for all rho, attention's output is kept where only the
feed-forward changes, the last layer runs only where logits are needed, and the unembedding there
too. q_proj, k_proj and v_proj are matrices of their own, and so are fc_in and fc_gate, however
the files fuse them.

Every piece (one layer, the part of a layer above a cut, the scoring) is compiled once per shape
and serves all layers, where one program per matrix would be compiled hundreds of times.

In the last layer the inputs of q_proj, out_proj, ov, fc_in and fc_out exist only at the
positions that predict answer tokens, because nothing else depends on them; statistics of
inputs (eigenpruning's mean) are over those.
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from truncated_weights.bridge import network as model
from truncated_weights.bridge import scoring
from truncated_weights.bridge.checkpoint import Checkpoint
from truncated_weights.bridge.config import Config
from truncated_weights.bridge.encoding import Encoded, EncodedBatch, Vocabulary, check, flat
from truncated_weights.bridge.families import laser
from truncated_weights.bridge.network import Context, outer_params
from truncated_weights.bridge.packing import PackedBatch, arrange, pack, shares
from truncated_weights.truncation.address import Address, Matrices, Params, at_path, product
from truncated_weights.truncation.editing import apply, resolve
from truncated_weights.truncation.notation import Intervention, Key, parse
from truncated_weights.truncation.search.cache import Cache
from truncated_weights.truncation.search.examples import Examples
from truncated_weights.truncation.search.network import Scores, Stopped
from truncated_weights.truncation.search.scorer import ExtraScores, Scorer
from truncated_weights.truncation.search.streams import Streams

# What a method of LanguageNetwork takes: examples as encoded, or packed by LanguageNetwork.pack.
Batch = EncodedBatch | PackedBatch

# A CPU runs a layer fastest where the feed-forward's activations, in float32, take about so many
# bytes: with twice as many every token costs a tenth to a seventh more. But of so many tokens at
# least, since a batch reads all weights.
_CACHED, _TOKENS = 2**24, 768
# What only the unembedding reads.
_END = ("final_norm", "transform", "transform_norm", "embed_out")


def matrices(config: Config) -> Matrices:
    """The addresses of every layer's matrices and, last in each, of its products."""
    found: dict[Key, Address] = {}
    heads = {
        "q_proj": (1, config.num_heads),
        "k_proj": (1, config.groups),
        "v_proj": (1, config.groups),
        "out_proj": (config.num_heads, 1),
    }
    for layer in range(config.num_layers):
        for name in config.matrices:
            found[layer, name] = at_path("layers", layer, name, heads=heads.get(name, (1, 1)))
        if "ov" in config.products:
            values, out = found[layer, "v_proj"], found[layer, "out_proj"]
            found[layer, "ov"] = product(values, out, ("v_proj", "out_proj"), summed=True)
    return found


def interventions(texts: Iterable[str], config: Config) -> list[Intervention]:
    """Interventions in our notation or LASER's, checked against the architecture.

    Raises ValueError for a bad notation, a layer or matrix that the model lacks, ov where heads
    share values, and a matrix that is cut twice.
    """
    addresses, found = matrices(config), []
    for text in texts:
        one = parse(laser.translate(text, config))
        if any(cut.matrix == "ov" for cut in one.cuts) and "ov" not in config.products:
            raise ValueError(
                f"ov: {config.num_heads} heads share {config.groups} groups of values, so v_proj "
                "and out_proj are not one product"
            )
        resolve(one, addresses)
        found.append(one)
    return found


def cut(checkpoint: Checkpoint, text: str) -> Checkpoint:
    """The checkpoint after an intervention, "3.fc_in@0.1" or LASER's "-1.laser:fc_up@0.1".

    Besides the stored matrices there is `ov` where every head has values of its own: the sum
    over heads of V_h O_h, [d, d], cut by projecting what out_proj writes; heads keep their
    patterns. Raises ValueError for a bad notation, a matrix that the model lacks, ov with
    grouped heads, weights that are not finite.
    """
    config = checkpoint.config
    (intervention,) = interventions([text], config)
    params = apply(checkpoint.params, intervention, matrices(config))
    return dataclasses.replace(checkpoint, params=params)


def readout(params: Params, config: Config) -> Float[np.ndarray, "d_model vocab"]:
    """How logits follow what is written to the stream, the final norm's divisor aside.

    The norm's scale is multiplied into the unembedding and, where the norm subtracts the mean,
    every column is centred. Raises ValueError for a head that transforms the stream first.
    """
    if config.masked:
        raise ValueError("readout: this head transforms the stream before it unembeds")
    head = params.get("embed_out", {})
    kernel = head["kernel"] if "kernel" in head else jnp.asarray(params["embed_in"]["embedding"]).T
    scale = np.asarray(params["final_norm"]["scale"], np.float32) + config.norm_offset
    found = np.asarray(kernel, np.float32) * scale.reshape(-1, 1)
    return found - found.mean(axis=0, keepdims=True) if config.norm == "layer" else found


def examples(
    config: Config,
    encoded: Encoded,
    *,
    dtype: str | None = None,
    memory: int = scoring.DEFAULT_MEMORY,
) -> Examples:
    """Prompts with one answer each, in batches whose activations take about `memory` bytes.

    On a CPU batches are smaller where its caches ask for it. Raises ValueError for examples that
    the model cannot read, or of tokens that it has not.
    """
    check(config, encoded.batch, encoded.vocabulary)
    size = scoring.batch_size(config, encoded.batch, memory=memory, dtype=dtype)
    if jax.default_backend() == "cpu":
        tokens = encoded.batch.mask.sum() / len(encoded)
        together = max(_TOKENS, _CACHED // (4 * config.d_ff))
        size = min(size, max(1, round(together / tokens)))
    return Examples(encoded.batch, np.ones((len(encoded), 1), np.float32), size)


def scorer(
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
    extra_scores: ExtraScores | None = None,
) -> Scorer:
    """Everything that the selection rules of truncation/ need, sized by memory in bytes.

    memory bounds, roughly, the activations of one batch; prefix_memory the streams kept.
    dtype is that of the activations (default: that of the parameters). together is how many
    candidates of a matrix run side by side: by default as many as memory allows beside one
    batch, and one on a CPU, whose caches a second one would only crowd. extra_scores makes further
    scores of every candidate (bridge.answers.Marks).
    """
    config = checkpoint.config
    found = examples(config, encoded, dtype=dtype, memory=memory)
    assert found.batch_size is not None
    one = scoring.bytes_per_example(config, encoded.batch, dtype) * found.batch_size
    # A candidate that cuts several matrices holds their edited copies too.
    feed_forward = 4 * 2 * config.d_model * config.d_ff
    if together is None:
        fitting = min(memory // one, memory // feed_forward)
        together = 1 if jax.default_backend() == "cpu" else max(1, fitting)
    network = LanguageNetwork(config, encoded.vocabulary, dtype, checkpoint.name)
    return Scorer(
        network,
        checkpoint.params,
        found,
        together=together,
        streams=Streams(network, limit=prefix_memory, on_host=prefixes_on_host),
        cache=cache,
        progress=progress,
        extra_scores=extra_scores,
    )


@dataclasses.dataclass(frozen=True)
class LanguageNetwork:
    """One architecture and its vocabulary; see truncation/search/network.py.

    dtype is that of the activations (None: that of the parameters). name is for lines to a user.
    """

    config: Config
    vocabulary: Vocabulary
    dtype: str | None = None
    name: str = dataclasses.field(default="the model", compare=False)
    can_stop: bool = dataclasses.field(default=True, init=False)

    @functools.cached_property
    def matrices(self) -> Matrices:
        """See the function of this name."""
        return matrices(self.config)

    @property
    def last(self) -> int:
        """Index of the last layer."""
        return self.config.num_layers - 1

    @property
    def description(self) -> str:
        """Architecture, vocabulary and precision."""
        precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
        return f"{self.config} {self.vocabulary} {self.dtype} {precision}"

    def below(self, params: Params, layer: int) -> Any:
        """The parameters that the stream entering `layer` depends on."""
        outside = [value for name, value in params.items() if name not in ("layers", *_END)]
        return outside, params["layers"][:layer]

    def arrange(self, data: EncodedBatch, size: int) -> Int[np.ndarray, " examples"]:
        """The order of packing.arrange: common beginnings together, batches of like cost."""
        return arrange(data, size, share=shares(self.config))

    def pack(self, batches: Sequence[EncodedBatch]) -> list[Batch]:
        """Common beginnings once, where that saves enough; see bridge/packing.py."""
        return pack(batches, self.config)

    def embed(self, params: Params, batch: Batch) -> Array:
        """x^0, the stream that enters layer 0: [rows, length, d], or [1, nodes, d] if packed."""
        tokens, context = jnp.asarray(flat(_rows(batch).tokens)), _context(batch)
        positions = context.positions
        if context.tree is not None:
            first = context.tree.first
            tokens, positions = tokens.reshape(-1)[first][None], positions.reshape(-1)[first][None]
        outer = outer_params(params)
        return model.embed(outer, self.config, tokens, positions, self.dtype)

    def layers(self, params: Params, start: int, end: int, stream: Array, batch: Batch) -> Array:
        """The stream that enters layer `end`, at all positions, from that which enters `start`."""
        return model.run_layers_fused(params, self.config, stream, _context(batch), start, end)

    def finish(self, params: Params, stream: Array, batch: Batch) -> Scores:
        """Scores from x^last; the last layer runs only where answers are predicted."""
        return self._score(params, self._end(params, stream, batch), batch)

    def stop(self, params: Params, key: Key, stream: Array, batch: Batch) -> Stopped:
        """The forward in front of a matrix; in the last layer only where answers are predicted.

        Of a packed batch the inputs are by node, [1, nodes, d_in], and all valid.
        """
        layer, name = key
        at = _at(batch) if layer == self.last else None
        inputs, rest = model.stop(
            params["layers"][layer], self.config.of_layer(layer), name, stream, _context(batch), at
        )
        if isinstance(batch, PackedBatch):
            return Stopped(inputs, jnp.ones(inputs.shape[:2], bool), rest)
        everywhere = at is None or name in model.READ_EVERYWHERE
        valid = jnp.asarray(batch.mask if everywhere else batch.counted)
        examples = len(valid)
        return Stopped(
            inputs.reshape(examples, -1, inputs.shape[-1]), valid.reshape(examples, -1), rest
        )

    def resume(self, params: Params, key: Key, outputs: Array, rest: Any, batch: Batch) -> Scores:
        """Scores from any output of a matrix, its bias not yet added."""
        return self._score(params, self._resumed(params, key, outputs, rest, batch), batch)

    def resume_each(
        self,
        params: Params,
        key: Key,
        outputs: Iterable[Array],
        rest: Any,
        batch: Batch,
    ) -> list[Scores]:
        """Scores of one output after another; several share one product with the unembedding."""
        ends = (self._resumed(params, key, one, rest, batch) for one in outputs)
        return scoring.finish_each(
            outer_params(params), self.config, ends, _rows(batch), self.vocabulary
        )

    def _resumed(self, params: Params, key: Key, outputs: Array, rest: Any, batch: Batch) -> Array:
        """The stream after the last layer where answers are predicted."""
        layer, name = key
        context = _context(batch)
        if not isinstance(batch, PackedBatch):
            outputs = outputs.reshape(context.mask.shape[0], -1, outputs.shape[-1])
        here = _at(batch) if layer == self.last else None
        config = self.config.of_layer(layer)
        x = model.resume(params["layers"][layer], config, name, outputs, rest, context, here)
        if layer == self.last:
            return x
        x = self.layers(params, layer + 1, self.last, x, batch)
        return self._end(params, x, batch)

    def probabilities(self, params: Params, stream: Array, batch: Batch) -> Array:
        """Probabilities [examples, 1, tokens] of the first answer token."""
        x = self._end(params, stream, batch)
        found = scoring.first_probabilities(
            outer_params(params), self.config, x, _rows(batch), self.vocabulary
        )
        return found[:, None]

    def drawn(self, data: EncodedBatch, law: Array, key: Array) -> EncodedBatch:
        """The same prompts; the token that follows drawn from a law [examples, 1, tokens]."""
        tokens = np.array(jax.random.categorical(key, jnp.log(law[:, 0])))
        targets, counted = np.array(data.targets), np.zeros_like(data.counted)
        targets[:, 0, 0], counted[:, 0, 0] = tokens, True
        return data._replace(targets=targets, counted=counted)

    def _end(self, params: Params, stream: Array, batch: Batch) -> Array:
        last, config = params["layers"][self.last], self.config.of_layer(self.last)
        return model.layer(last, config, stream, _context(batch), _at(batch))

    def _score(self, params: Params, x: Array, batch: Batch) -> Scores:
        return scoring.finish(outer_params(params), self.config, x, _rows(batch), self.vocabulary)


def _rows(batch: Batch) -> EncodedBatch:
    return batch.rows if isinstance(batch, PackedBatch) else batch


def _at(batch: Batch) -> Array:
    return jnp.asarray(flat(_rows(batch).at))


def _context(batch: Batch) -> Context:
    if isinstance(batch, PackedBatch):
        return batch.context
    return model.context_of(jnp.asarray(flat(batch.mask)))
