"""A model asked from the middle: what lies below the cuts runs once for all of them."""

import dataclasses
import functools
import pydoc_data.topics
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from truncated_weights.bridge import network
from truncated_weights.bridge.checkpoint import Checkpoint
from truncated_weights.bridge.network import context_of, outer_params
from truncated_weights.bridge.tasks.own.country_facts import CITIES
from truncated_weights.bridge.tokenizer import Tokenizer, mask_padding
from truncated_weights.truncation.metrics import Moments, moments
from truncated_weights.truncation.notation import Key

WORDINGS = {"asked": "{} is located in", "reworded": "{} is located in the country of"}
# Tokens of a text that are read together.
LENGTH = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts of one wording, padded on the right; `last` is where each ends."""

    tokens: Int[np.ndarray, "prompts length"]
    mask: Bool[np.ndarray, "prompts length"]

    @property
    def last(self) -> Int[np.ndarray, " prompts"]:
        """The place of the last token of each."""
        return self.mask.sum(axis=1) - 1


@dataclasses.dataclass(frozen=True, eq=False)
class Questions:
    """Every city asked for in every wording; countries of one token are answers and options."""

    cities: tuple[str, ...]
    countries: tuple[str, ...]
    options: Int[np.ndarray, " countries"]
    right: Int[np.ndarray, " cities"]
    prompts: dict[str, Prompts]


def questions(words: Tokenizer) -> Questions:
    """The cities of country_facts whose country is one token and not in the city's name."""
    ids = {country: words(f" {country}") for country in CITIES}
    countries = tuple(country for country in CITIES if len(ids[country]) == 1)
    facts = [(c, country) for country in countries for c in CITIES[country] if country not in c]
    prompts = {
        wording: _padded([[*words.prefix(), *words(text.format(city))] for city, _ in facts])
        for wording, text in WORDINGS.items()
    }
    return Questions(
        tuple(city for city, _ in facts),
        countries,
        np.array([ids[country][0] for country in countries]),
        np.array([countries.index(country) for _, country in facts]),
        prompts,
    )


def _padded(rows: Sequence[Sequence[int]]) -> Prompts:
    length = max(map(len, rows))
    tokens = np.zeros((len(rows), length), np.int32)
    mask = np.zeros((len(rows), length), bool)
    for place, row in enumerate(rows):
        tokens[place, : len(row)], mask[place, : len(row)] = row, True
    return Prompts(tokens, mask)


def manual() -> str:
    """Plain English that every Python brings along: its manual, topic by topic."""
    return "\n\n".join(text for _, text in sorted(pydoc_data.topics.topics.items()))


def sequences(words: Tokenizer, text: str, first: int, count: int) -> Prompts:
    """`count` tokens of a text from token `first` on, LENGTH at a time."""
    # A character is at most a token, or thereabouts; encoding a whole book would take seconds.
    ids = words(text[: 8 * (first + count)])[first : first + count]
    rows = len(ids) // LENGTH
    tokens = np.array(ids[: rows * LENGTH], np.int32).reshape(rows, LENGTH)
    return Prompts(tokens, np.ones_like(tokens, bool))


class Asked:
    """Prompts in front of the layers that are cut; streams below are computed once."""

    def __init__(self, checkpoint: Checkpoint, words: Tokenizer, prompts: Prompts):
        """Nothing runs yet."""
        self.checkpoint, self.words, self.prompts = checkpoint, words, prompts
        self._streams: dict[int, Array] = {}

    @functools.cached_property
    def _context(self) -> Any:
        return context_of(jnp.asarray(self.prompts.mask))

    def before(self, layer: int) -> Array:
        """The stream that enters a layer of the uncut model."""
        if layer not in self._streams:
            params, config = self.checkpoint.params, self.checkpoint.config
            below = max((known for known in self._streams if known < layer), default=None)
            if below is None:
                tokens = jnp.asarray(self.prompts.tokens)
                positions = self._context.positions
                x = network.embed(outer_params(params), config, tokens, positions)
                below = 0
            else:
                x = self._streams[below]
            self._streams[layer] = network.run_layers_fused(
                params, config, x, self._context, below, layer
            )
        return self._streams[layer]

    def moments(self, key: Key) -> Moments:
        """Of what a matrix reads at every real token."""
        layer, matrix = key
        params, config = self.checkpoint.params["layers"][layer], self.checkpoint.config
        inputs, _ = network.stop(
            params, config.of_layer(layer), matrix, self.before(layer), self._context, None
        )
        return moments(np.asarray(inputs, np.float32)[self.prompts.mask])

    def after(self, params: Any, layer: int) -> Array:
        """The last stream of a model whose layers below `layer` are the uncut ones."""
        config = self.checkpoint.config
        return network.run_layers_fused(
            params, config, self.before(layer), self._context, layer, config.num_layers
        )

    def laws(self, params: Any, layer: int) -> Float[np.ndarray, "prompts vocab"]:
        """log p of the token that follows each prompt."""
        x = self.after(params, layer)
        ends = x[jnp.arange(len(x)), jnp.asarray(self.prompts.last)][:, None]
        return np.asarray(self._law(params, ends)[:, 0])

    def text(
        self, params: Any, layer: int, reference: Sequence[np.ndarray] | None
    ) -> tuple[dict[str, float], list[np.ndarray]]:
        """Loss a token, KL of the reference's laws to these, share of equal predictions.

        And the laws, by sequence, in float16: the reference of others.
        """
        x, found = self.after(params, layer), []
        loss, kl, same = [], [], []
        for row, tokens in enumerate(self.prompts.tokens):
            law = np.asarray(self._law(params, x[row : row + 1])[0, :-1])
            loss.append(-law[np.arange(len(law)), tokens[1:]])
            if reference is None:
                found.append(law.astype(np.float16))
                continue
            full = reference[row].astype(np.float32)
            kl.append(np.sum(np.exp(full) * (full - law), axis=-1))
            same.append(full.argmax(axis=-1) == law.argmax(axis=-1))
        told = {"loss": float(np.mean(loss))}
        if reference is not None:
            told |= {"kl": float(np.mean(kl)), "same": float(np.mean(same))}
        else:
            told |= {"kl": 0.0, "same": 1.0}
        return told, found

    def _law(self, params: Any, x: Array) -> Array:
        config, words = self.checkpoint.config, self.words
        logits = network.final_logits(outer_params(params), config, x)
        return jax.nn.log_softmax(mask_padding(logits, words.size, words.holes), axis=-1)
