"""Which tokens begin and end a text, as the files beside the weights of a checkpoint say.

Four files speak of them. tokenizer_config.json and special_tokens_map.json name tokens by their
text; config.json and generation_config.json by their number, of ends sometimes a list: a chat
model ends its turns with other tokens than its base model ended documents. All ends that any of
them names are ends. Of beginnings the first that is named is the one.

add_bos_token in tokenizer_config.json says whether texts begin with it at all. Where it is
absent, the post_processor of tokenizer.json does.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.formats import strict_json

TOKENIZER_CONFIG = "tokenizer_config.json"
_BY_TEXT = (TOKENIZER_CONFIG, "special_tokens_map.json")
_BY_NUMBER = ("config.json", "generation_config.json")
Named = str | int
# What begins a text where no file says so. A tokenizer that has "<s>" too ends its texts with
# "<|endoftext|>", as Phi-3's does.
BOS = ("<|begin_of_text|>", "<s>", "<|endoftext|>")


@dataclasses.dataclass(frozen=True)
class Special:
    """Texts or ids of tokens with where they are named; add_bos is None where nobody says.

    says: what says add_bos, in words.
    """

    begins: tuple[tuple[str, Named], ...] = ()
    ends: tuple[tuple[str, Named], ...] = ()
    add_bos: bool | None = None
    says: str = f"add_bos_token of {TOKENIZER_CONFIG}"

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The ends that are named by number."""
        return tuple(dict.fromkeys(token for _, token in self.ends if isinstance(token, int)))


def read(directory: pathlib.Path) -> Special:
    """What the files of a directory say; files that are not there say nothing.

    Raises CheckpointError, naming file and key, for what is no token.
    """
    found = {
        name: strict_json.read(directory / name)
        for name in (*_BY_TEXT, *_BY_NUMBER)
        if (directory / name).exists()
    }
    try:
        begins, ends = (tuple(_named(found, kind)) for kind in ("bos", "eos"))
        add = found.get(TOKENIZER_CONFIG, {}).get("add_bos_token")
        if add is not None and not isinstance(add, bool):
            raise _wrong(TOKENIZER_CONFIG, "add_bos_token", add, "true, false or null")
    except CheckpointError as error:
        raise CheckpointError(f"{directory}/{error}") from None
    return Special(begins, ends, add)


def _wrong(name: str, key: str, value: Any, expected: str) -> CheckpointError:
    return CheckpointError(f"{name}: {key} is {str(value)[:80]!r}; expected {expected}")


def _named(found: Mapping[str, Mapping[str, Any]], kind: str) -> Iterator[tuple[str, Named]]:
    for name in _BY_TEXT:
        key = f"{kind}_token"
        token = found.get(name, {}).get(key)
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            if text:
                yield f"{key} of {name}", text
        elif token is not None:
            raise _wrong(name, key, token, "a text")
    for name in _BY_NUMBER:
        key = f"{kind}_token_id"
        value = found.get(name, {}).get(key)
        for token in value if isinstance(value, list) else [value]:
            if token is not None and type(token) is not int:
                raise _wrong(name, key, value, "a number or a list of numbers")
            # Some files have -1 for "there is none".
            if token is not None and token >= 0:
                yield f"{key} of {name}", token


@dataclasses.dataclass(frozen=True)
class Resolved:
    """The ids of a tokenizer: those before every text, the one that begins texts, the ends.

    sources: by what the first two are so, in words.
    """

    before: tuple[int, ...]
    bos: int | None
    sources: tuple[str, str]
    ends: tuple[int, ...]


def resolve(special: Special, library: Any, before: tuple[int, ...], file: str) -> Resolved:
    """What the files say as ids of a tokenizer, whose post_processor puts `before` before texts.

    Texts and ids that it does not have are passed over. file names it in messages. Raises
    CheckpointError where add_bos_token is true and no token is known to begin texts.
    """
    found = ((_id(library, token), where) for where, token in special.begins)
    bos, named = next((one for one in found if one[0] is not None), (None, ""))
    if bos is None and before:
        bos, named = before[0], file
    elif bos is None:
        known = (library.token_to_id(text) for text in BOS)
        bos = next((token for token in known if token is not None), None)
        named = "its name, for no file names one"
    said = file if special.add_bos is None else special.says
    if special.add_bos is True:
        if bos is None:
            raise CheckpointError(f"{said} is true, but no file names a token that begins texts")
        before = before if before[:1] == (bos,) else (bos, *before)
    elif special.add_bos is False and before[:1] == (bos,):
        before = before[1:]
    ends = (_id(library, token) for _, token in special.ends)
    return Resolved(
        before, bos, (said, named), tuple(dict.fromkeys(end for end in ends if end is not None))
    )


def _id(library: Any, token: Named) -> int | None:
    """The id of a token by its text or id; None if the tokenizer has none such."""
    if isinstance(token, str):
        return library.token_to_id(token)
    return token if token < 2**31 and library.id_to_token(token) is not None else None
