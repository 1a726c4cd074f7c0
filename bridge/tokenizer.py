"""The tokenizer beside a checkpoint, through the tokenizers library.

Which tokens stand before a text is said by add_bos_token in tokenizer_config.json, and where
that is absent by tokenizer.json's post_processor: Llama, Mistral and RoBERTa begin every text
with one, GPT-2, GPT-NeoX, Qwen2 and Phi with none. Which token begins or ends a text is read
from the files beside (bridge.formats.special_tokens). Leaving it out, adding one, or another
one, shifts every result; so programs print what Tokenizer.begins says.

SentencePiece tokenizers (Llama 2, Mistral, Phi-3) put a space before every text, so the ids
of a prompt and of its answer, made apart, are not those of the two together. Here a text
that begins with a space is the continuation of another: its ids are those it has there.

The embedding may have more rows than there are tokens (GPT-NeoX: 50,277 of 50,304). The rows
beyond are padding that no text can mean, and must not win an argmax or count in a rank;
GPT-J lists its 143 as tokens <|extratoken_1|> and on, which are taken for what they are. Rows
that a vocabulary leaves out between its tokens are such holes too.
"""

import codecs
import contextlib
import dataclasses
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from truncated_weights.bridge import gguf
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.formats import special_tokens
from truncated_weights.bridge.gguf import tokens
from truncated_weights.truncation.files import regular

_NAMES = ("tokenizer.json", "20B_tokenizer.json")
LARGEST_FILE = 2**28  # those of 256,000 tokens have some 30 MB
_PADDING = re.compile(r"<\|extratoken_\d+\|>")

# Ids that no text can mean below the largest that one can, as (start, stop) in rising order.
Holes = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Text to token ids and back.

    size: ids from size on are padding. holes: ids below that are padding too. before, after: the
    ids that stand around every text by the tokenizer's own files. bos: the id of the token that
    begins texts, if there is one. mask: that which hides a word from a masked model.
    prepends_space: whether a space is put before every text. sources: where before and bos are
    from, in words. ends: the ids that end a text.
    """

    library: Any
    size: int
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    bos: int | None = None
    mask: int | None = None
    prepends_space: bool = False
    holes: Holes = ()
    sources: tuple[str, str] = ("tokenizer.json", "its name")
    ends: tuple[int, ...] = ()

    def __call__(self, text: str) -> list[int]:
        """The ids of a text, special tokens left out, spaces as they stand.

        " Spain" and "Spain" differ, except where a space is put before every text: there
        both are the ids that " Spain" has behind another word.
        """
        if self.prepends_space and text.startswith(" "):
            text = text[1:]
        return self._plain(text)

    def prefix(self, bos: bool = False) -> tuple[int, ...]:
        """The ids to put before every text: the tokenizer's own, or else bos if asked for.

        Raises ValueError if bos is asked for and the tokenizer has no such token.
        """
        if self.before or not bos:
            return self.before
        if self.bos is None:
            known = ", ".join(special_tokens.BOS)
            raise ValueError(f"bos: this tokenizer has none of {known}, and names no other")
        return (self.bos,)

    def begins(self, bos: bool = False) -> str:
        """How texts begin, and which file says so, in one line; bos as in prefix."""
        before, source = self.prefix(bos), self.sources[0 if self.before else 1]
        if not before:
            return f"texts begin with no special token, by {self.sources[0]}"
        asked = "" if self.before else "as asked for, "
        return f"texts begin with {self.decode(before)!r}, {asked}by {source}"

    def around(self, masked: bool, bos: bool = False) -> dict[str, Any]:
        """What encode_examples puts around the texts of a model: its keyword arguments.

        Raises ValueError if the model is masked and the tokenizer has no <mask>.
        """
        if not masked:
            return {"prefix": self.prefix(bos)}
        if self.mask is None:
            raise ValueError("a masked model needs a tokenizer that has <mask>")
        return {"prefix": self.prefix(bos), "mask_token": self.mask, "suffix": self.after}

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, special tokens written out."""
        with _naming("decoding"):
            return self.library.decode(list(ids), skip_special_tokens=False)

    def means(self, token: int, text: str) -> bool:
        """Whether a token is this text, save for spaces in front: an unknown one is not."""
        return self.decode([token]).lstrip(" ") == text.lstrip(" ")

    def single(self, text: str) -> int:
        """The id of a text that is one token; ValueError, naming its pieces, if it is not."""
        ids = self(text)
        if len(ids) == 1 and not self.means(ids[0], text):
            raise ValueError(f"{text!r} is no token: it is read as {self.decode(ids)!r}")
        if len(ids) != 1:
            pieces = " ".join(repr(self.decode([token])) for token in ids)
            raise ValueError(f"{text!r} is not one token but {len(ids)}: {pieces}")
        return ids[0]

    def _plain(self, text: str) -> list[int]:
        with _naming("encoding"):
            return self.library.encode(text, add_special_tokens=False).ids


def find(directory: pathlib.Path) -> pathlib.Path | None:
    """The tokenizer's file in a directory, or a GGUF file itself; None if there is none."""
    found = (directory / name for name in _NAMES if (directory / name).exists())
    return next(found, None) or gguf.place(directory)


def read(path: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer in a tokenizers JSON file, or in a directory that holds one.

    Raises CheckpointError if there is none or it cannot be read, and ImportError, saying
    what to install, without the tokenizers library.
    """
    try:
        import tokenizers
    except ImportError:
        raise ImportError(
            "reading a tokenizer needs the tokenizers library: pip install tokenizers"
        ) from None
    file = pathlib.Path(path)
    if file.is_dir():
        found = find(file)
        if found is None:
            raise CheckpointError(f"{file}: no tokenizer.json")
        file = found
    if gguf.place(file):
        with _naming(f"{file}: not a tokenizer"), _unless_it_panics():
            described = tokens.build(gguf.read(file).metadata)
            return _of(described.library, described.special, (), (), file.name)
    special = special_tokens.read(file.parent)
    try:
        content = regular.content(file, LARGEST_FILE).removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None
    with _naming(f"{file}: not a tokenizer"), _unless_it_panics():
        library = tokenizers.Tokenizer.from_buffer(content)
        library.no_truncation()
        library.no_padding()
        return _of(library, special, *_around(library), file.name)


def _of(
    library: Any,
    special: special_tokens.Special,
    before: tuple[int, ...],
    after: tuple[int, ...],
    file: str,
) -> Tokenizer:
    """A Tokenizer from the library's, whose post_processor puts `before` and `after` around."""
    twice = library.encode("a a", add_special_tokens=False).ids
    prepends = len(twice) == 2 and twice[0] == twice[1]
    mask = library.token_to_id("<mask>")
    size, holes = _real_ids(library)
    own = special_tokens.resolve(special, library, before, file)
    given = (library, size, own.before, after, own.bos, mask, prepends, holes)
    return Tokenizer(*given, own.sources, own.ends)


@contextlib.contextmanager
def _naming(what: str) -> Iterator[None]:
    """Whatever the library raises as a CheckpointError that opens with `what`.

    It raises plain Exception, UnicodeEncodeError and OverflowError; where its Rust panics, a
    PanicException, which is a BaseException and can only be told by its name.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"{what} ({error})") from None


@contextlib.contextmanager
def _unless_it_panics() -> Iterator[None]:
    """Hold back what is written to standard error, and lose it if the block fails.

    Rust writes its backtrace there itself, before there is an exception.
    """
    with tempfile.TemporaryFile() as said:
        try:
            kept = os.dup(2)
        except OSError:  # a process without a standard error
            yield
            return
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        said.seek(0)
        os.write(2, said.read())


def _around(library: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids that the post_processor puts before and behind a text."""
    text = library.encode("a", add_special_tokens=True)
    # A sequence id of None marks what came from no text.
    own = [index for index, owner in enumerate(text.sequence_ids) if owner is not None]
    if not own:
        return tuple(text.ids), ()
    return tuple(text.ids[: own[0]]), tuple(text.ids[own[-1] + 1 :])


def _real_ids(library: Any) -> tuple[int, Holes]:
    """One more than the largest id of a token, and the ids below that no token has.

    Padding that is listed as tokens counts as none.
    """
    listed = library.get_vocab(with_added_tokens=True).items()
    ids = sorted({number for text, number in listed if not _PADDING.fullmatch(text)})
    edges = zip([-1, *ids], ids, strict=False)
    holes = tuple((before + 1, after) for before, after in edges if after > before + 1)
    return ids[-1] + 1 if ids else 0, holes


def mask_padding(
    logits: Float[Array, "*batch vocab"], size: int, holes: Holes = ()
) -> Float[Array, "*batch vocab"]:
    """Logits with minus infinity at the rows of no token: ids from size on, and the holes."""
    if size >= logits.shape[-1] and not holes:
        return logits
    real = np.arange(logits.shape[-1]) < size
    for start, stop in holes:
        real[start:stop] = False
    return jnp.where(jnp.broadcast_to(real, logits.shape), logits, -jnp.inf)
