"""The Transformer as a truncation Network: it stops in front of any matrix and resumes.

The forward is toy/network.py; its matrices may also be stored as factors or have a bias. In the
last layer everything but the keys is computed at scored positions only.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from truncated_weights.toy import network, transformer
from truncated_weights.toy.layer import Weights
from truncated_weights.toy.probes.outputs import predictions
from truncated_weights.toy.recall import Batch, Task
from truncated_weights.toy.transformer_config import TransformerConfig
from truncated_weights.truncation.address import Matrices
from truncated_weights.truncation.notation import Key
from truncated_weights.truncation.search.examples import Examples
from truncated_weights.truncation.search.network import Scores, Stopped, in_order

Data = Mapping[str, Any]


def examples(batch: Batch, *, batch_size: int | None = None) -> Examples:
    """The sequences of a batch as Examples of a search; one answer per scored position."""
    data = {k: v for k, v in batch._asdict().items() if k != "dropped"}
    return Examples(data, np.asarray(batch.weights), batch_size)


@dataclasses.dataclass(frozen=True, eq=False)
class RecallNetwork:
    """The architecture of `config`, scored on a task; see truncation/search/network.py.

    Its params are the combined weights (transformer.combine); scores are those of
    outputs.predictions: p_correct, p_noise, accuracy, loss. Make one and keep it: it names what
    is compiled, a piece per matrix and layer.
    """

    task: Task
    config: TransformerConfig
    can_stop: bool = dataclasses.field(default=True, init=False)

    @functools.cached_property
    def matrices(self) -> Matrices:
        """Every matrix of every layer, from the bottom up, ov last in each."""
        return transformer.matrices(self.config)

    @property
    def last(self) -> int:
        """Index of the last layer."""
        return self.config.num_layers - 1

    @property
    def description(self) -> str:
        """Architecture, and what of the task decides scores."""
        return f"{self.config} noise {self.task.noise}"

    def below(self, weights: Weights, layer: int) -> Any:
        """The weights that decide the stream before a layer."""
        outside = {name: value for name, value in weights.items() if name != "layers"}
        return outside, [weights["layers"][index] for index in range(layer)]

    def arrange(self, data: Data, size: int) -> Int[np.ndarray, " examples"]:
        """The order in which examples are batched: as they are, since all are of one length."""
        return in_order(data)

    def pack(self, batches: Sequence[Data]) -> list[Data]:
        """The batches as they are: random sequences share no beginnings."""
        return list(batches)

    def embed(self, weights: Weights, batch: Data) -> Array:
        """x^0 [batch, length, d], the stream before layer 0."""
        return _embed(self.config, weights, batch["tokens"])

    def layers(self, weights: Weights, start: int, end: int, stream: Array, batch: Data) -> Array:
        """The stream that enters layer `end` at all positions, from that before layer `start`."""
        for index in range(start, end):
            stream = _layer(self.config, weights, index, stream)
        return stream

    def finish(self, weights: Weights, stream: Array, batch: Data) -> Scores:
        """Scores [batch, scored] from the stream before the last layer."""
        return _finish(self, weights, stream, batch)

    def stop(self, weights: Weights, key: Key, stream: Array, batch: Data) -> Stopped:
        """What a matrix reads, at scored positions where no others matter; network.stop."""
        inputs, rest = _stop(self.config, weights, key, stream, batch["positions"])
        layer, name = key
        whole = name == "k_proj" or (name == "v_proj" and self.config.num_heads > 1)
        everywhere = whole or layer < self.last
        valid = jnp.ones(inputs.shape[:2], bool) if everywhere else batch["weights"] > 0
        return Stopped(inputs, valid, rest)

    def resume(self, weights: Weights, key: Key, outputs: Array, rest: Any, batch: Data) -> Scores:
        """Scores from the output of a matrix, its bias not yet added; network.resume."""
        return _resume(self, weights, key, outputs, rest, batch)

    def resume_each(
        self, weights: Weights, key: Key, outputs: Iterable[Array], rest: Any, batch: Data
    ) -> list[Scores]:
        """Scores of one output after another: what follows a matrix is cheap here."""
        return [self.resume(weights, key, one, rest, batch) for one in outputs]

    def probabilities(self, weights: Weights, stream: Array, batch: Data) -> Array:
        """Probabilities [sequences, scored, vocab], from the stream before the last layer."""
        return _probabilities(self, weights, stream, batch)

    def drawn(self, data: Data, law: Array, key: Array) -> Data:
        """The same sequences, the token after each scored trigger drawn from a law."""
        return {**data, "labels": jax.random.categorical(key, jnp.log(law))}

    def _logits(self, weights: Weights, stream: Array, batch: Data) -> Array:
        found = network.suffix(self.config, weights, stream, self.last, batch["positions"])
        return found.logits

    def _scores(self, logits: Array, batch: Data) -> Scores:
        return predictions(self.task, logits, Batch(**batch, dropped=jnp.int32(0)))


_embed = jax.jit(network.embed, static_argnums=0)
_layer = jax.jit(network.step, static_argnums=(0, 2))
_stop = jax.jit(network.stop, static_argnums=(0, 2))


@functools.partial(jax.jit, static_argnums=0)
def _finish(net: RecallNetwork, weights: Weights, stream: Array, batch: Data) -> Scores:
    return net._scores(net._logits(weights, stream, batch), batch)


@functools.partial(jax.jit, static_argnums=0)
def _probabilities(net: RecallNetwork, weights: Weights, stream: Array, batch: Data) -> Array:
    return jax.nn.softmax(net._logits(weights, stream, batch))


@functools.partial(jax.jit, static_argnums=(0, 2))
def _resume(
    net: RecallNetwork, weights: Weights, key: Key, outputs: Array, rest: Any, batch: Data
) -> Scores:
    logits = network.resume(net.config, weights, key, outputs, rest, batch["positions"])
    return net._scores(logits, batch)
