"""The Transformer as a truncation Network: it stops in front of any matrix and goes on.

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

from toy import network, transformer
from toy.layer import Weights
from toy.probes.outputs import predictions
from toy.recall import Batch, Task
from toy.transformer_config import TransformerConfig
from truncation.address import Matrices
from truncation.notation import Key
from truncation.search.examples import Examples
from truncation.search.network import Entry, Scores, in_order

Data = Mapping[str, Any]


def examples(batch: Batch, *, batch_size: int | None = None) -> Examples:
    """These sequences; one answer per scored position."""
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
    stops: bool = dataclasses.field(default=True, init=False)

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
        """What the stream before a layer is made of."""
        outside = {name: value for name, value in weights.items() if name != "layers"}
        return outside, [weights["layers"][index] for index in range(layer)]

    def arrange(self, data: Data, size: int) -> Int[np.ndarray, " examples"]:
        """As they are: all are of one length."""
        return in_order(data)

    def pack(self, batches: Sequence[Data]) -> list[Data]:
        """As they are: random sequences share no beginnings."""
        return list(batches)

    def embed(self, weights: Weights, batch: Data) -> Array:
        """x^0."""
        return _embed(self.config, weights, batch["tokens"])

    def layers(self, weights: Weights, start: int, stop: int, stream: Array, batch: Data) -> Array:
        """Layers from start on, before stop, at all positions."""
        for index in range(start, stop):
            stream = _layer(self.config, weights, index, stream)
        return stream

    def finish(self, weights: Weights, stream: Array, batch: Data) -> Scores:
        """The last layer at scored positions, and the scores there."""
        return _finish(self, weights, stream, batch)

    def enter(self, weights: Weights, key: Key, stream: Array, batch: Data) -> Entry:
        """Inputs of a matrix, at scored positions where only those matter."""
        inputs, rest = _stop(self.config, weights, key, stream, batch["positions"])
        layer, name = key
        whole = name == "k_proj" or (name == "v_proj" and self.config.num_heads > 1)
        everywhere = whole or layer < self.last
        valid = jnp.ones(inputs.shape[:2], bool) if everywhere else batch["weights"] > 0
        return Entry(inputs, valid, rest)

    def leave(self, weights: Weights, key: Key, outputs: Array, rest: Any, batch: Data) -> Scores:
        """On from the output of a matrix, the bias it may have not yet added."""
        return _leave(self, weights, key, outputs, rest, batch)

    def leave_each(
        self, weights: Weights, key: Key, outputs: Iterable[Array], rest: Any, batch: Data
    ) -> list[Scores]:
        """One by one: the end is a small part of it."""
        return [self.leave(weights, key, one, rest, batch) for one in outputs]

    def probabilities(self, weights: Weights, stream: Array, batch: Data) -> Array:
        """[sequences, scored positions, tokens]."""
        return _probabilities(self, weights, stream, batch)

    def _logits(self, weights: Weights, stream: Array, batch: Data) -> Array:
        found = network.onward(self.config, weights, stream, self.last, batch["positions"])
        return found.logits

    def _scores(self, logits: Array, batch: Data) -> Scores:
        return predictions(self.task, logits, Batch(**batch, dropped=jnp.int32(0)))


_embed = jax.jit(network.enter, static_argnums=0)
_layer = jax.jit(network.step, static_argnums=(0, 2))
_stop = jax.jit(network.stop, static_argnums=(0, 2))


@functools.partial(jax.jit, static_argnums=0)
def _finish(net: RecallNetwork, weights: Weights, stream: Array, batch: Data) -> Scores:
    return net._scores(net._logits(weights, stream, batch), batch)


@functools.partial(jax.jit, static_argnums=0)
def _probabilities(net: RecallNetwork, weights: Weights, stream: Array, batch: Data) -> Array:
    return jax.nn.softmax(net._logits(weights, stream, batch))


@functools.partial(jax.jit, static_argnums=(0, 2))
def _leave(
    net: RecallNetwork, weights: Weights, key: Key, outputs: Array, rest: Any, batch: Data
) -> Scores:
    logits = network.go_on(net.config, weights, key, outputs, rest, batch["positions"])
    return net._scores(logits, batch)
