"""The tokenizer beside a checkpoint, through the tokenizers library.

The GPT-NeoX tokenizer has 50,277 ids while the embedding has 50,304 rows or more; the rows
beyond are padding that no text can mean, and must not win an argmax or count in a rank.
It puts nothing before a text; some tools add the token <|endoftext|> there, which shifts
every result, so here it is an option that is off unless asked for.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from bridge.errors import CheckpointError

_NAMES = ("tokenizer.json", "20B_tokenizer.json")


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Text to token ids and back; size counts the ids there are.

    add_bos puts the token of id bos before every encoded text.
    """

    library: Any
    size: int
    add_bos: bool = False
    bos: int = 0

    def __call__(self, text: str) -> list[int]:
        """The ids of a text, spaces as they stand: " Spain" and "Spain" differ."""
        ids = self.library.encode(text, add_special_tokens=False).ids
        return [self.bos, *ids] if self.add_bos else ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, special tokens written out."""
        return self.library.decode(list(ids), skip_special_tokens=False)

    def single(self, text: str) -> int:
        """The id of a text that is one token; ValueError, naming its pieces, if it is not."""
        ids = self.library.encode(text, add_special_tokens=False).ids
        if len(ids) != 1:
            pieces = " ".join(repr(self.decode([token])) for token in ids)
            raise ValueError(f"{text!r} is not one token but {len(ids)}: {pieces}")
        return ids[0]


def find(directory: pathlib.Path) -> pathlib.Path | None:
    """The tokenizer's file in a directory, None if there is none."""
    return next((directory / name for name in _NAMES if (directory / name).is_file()), None)


def read(path: str | os.PathLike[str], *, add_bos: bool = False) -> Tokenizer:
    """The tokenizer in a tokenizers JSON file, or in a directory that holds one.

    Raises CheckpointError if there is none or it cannot be read, and ImportError, saying
    what to install, without the tokenizers library.
    """
    try:
        import tokenizers
    except ImportError:
        raise ImportError(
            "reading a tokenizer needs the tokenizers library: pip install 'truncated-weights"
            "[pythia]'"
        ) from None
    file = pathlib.Path(path)
    if file.is_dir():
        found = find(file)
        if found is None:
            raise CheckpointError(f"{file}: no tokenizer.json")
        file = found
    try:
        library = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"{file}: not a tokenizer ({error})") from None
    library.no_truncation()
    library.no_padding()
    return Tokenizer(library, library.get_vocab_size(with_added_tokens=True), add_bos)


def mask_padding(logits: Float[Array, "*batch vocab"], size: int) -> Float[Array, "*batch vocab"]:
    """Logits with minus infinity at the padding rows, ids from size on."""
    real = jnp.arange(logits.shape[-1]) < size
    return jnp.where(jnp.broadcast_to(real, logits.shape), logits, -jnp.inf)
