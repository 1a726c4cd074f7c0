"""The tokenizer that a GGUF file describes, made with the tokenizers library.

tokenizer.ggml.model says of which kind: "gpt2" is byte-level BPE with its merges, split first by
the rule that tokenizer.ggml.pre names; "llama" is SentencePiece, whose scores say in which order
pieces are merged, and which falls back to bytes.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.formats.special_tokens import TOKENIZER_CONFIG, Special

_PLAIN = ("gpt-2", "olmo", "phi-2")
# A longer piece is no piece of a language; each is taken apart at every place.
_LONGEST = 512
_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Rules that split a text before its bytes are merged, by their names.
_SPLITS = {
    "llama-bpe": rf"{_LETTERS}|\p{{N}}{{1,3}}{_REST}",
    "llama3": rf"{_LETTERS}|\p{{N}}{{1,3}}{_REST}",
    "qwen2": rf"{_LETTERS}|\p{{N}}{_REST}",
}
_NORMAL, _UNKNOWN, _CONTROL, _OWN, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6


@dataclasses.dataclass(frozen=True)
class Described:
    """A tokenizers.Tokenizer, what begins and ends texts, and the text of the chat template."""

    library: Any
    special: Special
    chat_template: str | None


def build(metadata: Mapping[str, Any]) -> Described:
    """What the metadata describe.

    Raises CheckpointError for a kind or splitting rule that is not known, naming it, and for
    metadata that do not fit together; ImportError without the tokenizers library.
    """
    kind, tokens = _get(metadata, "model", str), _get(metadata, "tokens", list)
    if not all(isinstance(token, str) for token in tokens) or len(set(tokens)) != len(tokens):
        raise CheckpointError("tokenizer.ggml.tokens are no texts, or hold one twice")
    kinds = _numbers(metadata, "token_type", len(tokens), _NORMAL)
    if kind == "gpt2":
        library = _byte_level(metadata, tokens)
    elif kind == "llama":
        library = _sentencepiece(metadata, tokens, kinds)
    else:
        raise CheckpointError(
            f"tokenizer.ggml.model {kind[:40]!r} is not supported; known are gpt2, llama"
        )
    _add_special(library, tokens, kinds)
    # Older files of Llama 3 do not say so, but their texts begin with the token.
    begun = kind == "llama" or metadata.get("tokenizer.ggml.pre") in ("llama-bpe", "llama3")
    add = metadata.get("tokenizer.ggml.add_bos_token", begun)
    ends = [metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot")]
    begins = metadata.get("tokenizer.ggml.bos_token_id")
    special = Special(
        tuple(("tokenizer.ggml.bos_token_id", token) for token in [begins] if _is_id(token)),
        tuple(("tokenizer.ggml.eos_token_id", token) for token in ends if _is_id(token)),
        bool(add),
        "tokenizer.ggml.add_bos_token",
    )
    template = metadata.get("tokenizer.chat_template")
    return Described(library, special, template if isinstance(template, str) else None)


def files(library: Any, metadata: Mapping[str, Any]) -> dict[str, str]:
    """The files that other tools want beside the weights, by name: their texts."""
    of = {
        kind: library.id_to_token(metadata[f"tokenizer.ggml.{kind}_token_id"])
        for kind in ("bos", "eos")
        if _is_id(metadata.get(f"tokenizer.ggml.{kind}_token_id"))
    }
    said = {f"{kind}_token": text for kind, text in of.items() if text is not None}
    described = build(metadata)
    said["add_bos_token"] = bool(described.special.add_bos)
    if described.chat_template is not None:
        said["chat_template"] = described.chat_template
    return {
        "tokenizer.json": library.to_str(),
        TOKENIZER_CONFIG: json.dumps(said, indent=1, ensure_ascii=False) + "\n",
    }


def _is_id(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 2**31


def _get(metadata: Mapping[str, Any], key: str, kind: type) -> Any:
    found = metadata.get(f"tokenizer.ggml.{key}")
    if not isinstance(found, kind):
        raise CheckpointError(f"tokenizer.ggml.{key} is missing, or no {kind.__name__}")
    return found


def _numbers(metadata: Mapping[str, Any], key: str, size: int, absent: float | int) -> np.ndarray:
    found = metadata.get(f"tokenizer.ggml.{key}")
    if found is None:
        return np.full(size, absent)
    if not isinstance(found, np.ndarray) or len(found) != size:
        raise CheckpointError(f"tokenizer.ggml.{key} is no list of {size} numbers")
    return found


def _byte_level(metadata: Mapping[str, Any], tokens: Sequence[str]) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    # None, and "default", is a rule of llama.cpp's own, which is not written here.
    name = metadata.get("tokenizer.ggml.pre")
    merges = _get(metadata, "merges", list)
    pairs: list[Any] = [tuple(merge.split(" ")) for merge in merges if isinstance(merge, str)]
    ids = {token: number for number, token in enumerate(tokens)}
    if len(pairs) != len(merges) or not all(
        len(pair) == 2 and {*pair, "".join(pair)} <= ids.keys() for pair in pairs
    ):
        raise CheckpointError("tokenizer.ggml.merges are not pairs of tokens")
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name not in _SPLITS)
    if name in _PLAIN:
        split: Any = bytewise
    elif name == "smollm":
        split = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytewise])
    elif name in _SPLITS:
        rule = pre_tokenizers.Split(Regex(_SPLITS[name]), "isolated")
        split = pre_tokenizers.Sequence([rule, bytewise])
    else:
        known = ", ".join([*_PLAIN, "smollm", *_SPLITS])
        raise CheckpointError(
            f"tokenizer.ggml.pre {str(name)[:40]!r} is not supported; known are {known}"
        )
    whole = name in ("llama-bpe", "llama3")
    library = Tokenizer(models.BPE(vocab=ids, merges=pairs, ignore_merges=whole))
    library.pre_tokenizer, library.decoder = split, decoders.ByteLevel()
    if name == "qwen2":
        library.normalizer = normalizers.NFC()
    return library


def _sentencepiece(metadata: Mapping[str, Any], tokens: Sequence[str], kinds: np.ndarray) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers

    if longest := next((token for token in tokens if len(token) > _LONGEST), ""):
        raise CheckpointError(f"a piece of {len(longest)} letters; at most {_LONGEST} are read")
    scores = _numbers(metadata, "scores", len(tokens), 0.0)
    ids = {token: number for number, token in enumerate(tokens)}
    # A piece may be made of any two that are pieces; the better its score, the earlier.
    merges = []
    for number, token in enumerate(tokens):
        if kinds[number] in (_NORMAL, _OWN):
            halves = ((token[:place], token[place:]) for place in range(1, len(token)))
            found = [half for half in halves if half[0] in ids and half[1] in ids]
            found.sort(key=lambda half: (ids[half[0]], ids[half[1]]))
            merges += [(-float(scores[number]), half) for half in found]
    merges.sort(key=lambda one: one[0])
    unknown = [tokens[int(number)] for number in np.flatnonzero(kinds == _UNKNOWN)[:1]]
    library = Tokenizer(
        models.BPE(
            vocab=ids, merges=[half for _, half in merges], fuse_unk=True,
            byte_fallback=True, unk_token=unknown[0] if unknown else None,
        )
    )  # fmt: skip
    spaces = normalizers.Replace(" ", "▁")
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if metadata.get("tokenizer.ggml.add_space_prefix", True):
        library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
        back.append(decoders.Strip(content=" ", left=1))
    else:
        library.normalizer = spaces
    library.decoder = decoders.Sequence(back)
    return library


def _add_special(library: Any, tokens: Sequence[str], kinds: np.ndarray) -> None:
    from tokenizers import AddedToken

    for kind, special in ((_CONTROL, True), (_UNKNOWN, True), (_OWN, False)):
        chosen = [token for token, found in zip(tokens, kinds, strict=True) if found == kind]
        library.add_tokens([AddedToken(t, normalized=False, special=special) for t in chosen if t])
