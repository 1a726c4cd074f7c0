"""Tokenizers made from a file's metadata, against those that the metadata were taken from."""

import json
import pathlib

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from truncated_weights.bridge import tokenizer
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.formats import special_tokens
from truncated_weights.bridge.gguf import tokens

HERE = pathlib.Path(__file__).parent
TEXT = (HERE.parents[2] / "README.md").read_text(encoding="utf-8").splitlines()
SPOKEN = json.loads((HERE / "sentencepiece.json").read_text(encoding="utf-8"))


def trained(split):
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = split
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<|end|>", "<|start|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    library.train_from_iterator(TEXT, trainer)
    return library


def metadata(library, name, **more):
    whole = json.loads(library.to_str())["model"]
    listed = sorted(whole["vocab"], key=whole["vocab"].get)
    kinds = np.ones(len(listed), np.int32)
    kinds[:2] = 3
    ggml = {
        "model": "gpt2", "pre": name, "tokens": listed, "token_type": kinds,
        "merges": [" ".join(pair) for pair in whole["merges"]], "bos_token_id": 1,
        "eos_token_id": 0, "add_bos_token": False, **more,
    }  # fmt: skip
    return {f"tokenizer.ggml.{key}": value for key, value in ggml.items()}


LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("gpt-2", LEVEL),
        (
            "smollm",
            pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), LEVEL]),
        ),
    ],
)
def test_bytes_are_merged_as_by_the_tokenizer_itself(name, split):
    library = trained(split)
    described = tokens.build(metadata(library, name))
    for text in [*TEXT, "naïve 日本 12345", "<|start|>user<|end|>"]:
        assert described.library.encode(text).ids == library.encode(text).ids
        assert described.library.decode(described.library.encode(text).ids) == text.replace(
            "<|start|>", ""
        ).replace("<|end|>", "")


@pytest.mark.parametrize(
    ("name", "pieces"),
    [("llama-bpe", ["123", "45", " is", "\n\n", "I", "'m"]),
     ("qwen2", ["1", "2", "3", "4", "5", " is", "\n\n", "I", "'m"])],
)  # fmt: skip
def test_other_rules_split_a_text_as_published(name, pieces):
    described = tokens.build(metadata(trained(LEVEL), name))
    found = described.library.pre_tokenizer.pre_tokenize_str("12345 is\n\nI'm")
    spelled = {"Ġ": " ", "Ċ": "\n"}
    assert ["".join(spelled.get(c, c) for c in piece) for piece, _ in found] == pieces


@pytest.mark.parametrize("name", SPOKEN)
def test_pieces_are_those_of_sentencepiece(name):
    """Recorded by record_sentencepiece.py."""
    said = SPOKEN[name]
    described = tokens.build(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": said["pieces"],
            "tokenizer.ggml.scores": np.array(said["scores"], np.float32),
            "tokenizer.ggml.token_type": np.array(said["kinds"], np.int32),
            "tokenizer.ggml.add_space_prefix": said["prefix"],
            "tokenizer.ggml.bos_token_id": 1,
        }
    )
    for text, ids in zip(said["texts"], said["ids"], strict=True):
        assert described.library.encode(text).ids == ids, text
    words = tokenizer._of(described.library, described.special, (), (), "m.gguf")
    assert (words.before, words.prepends_space) == ((1,), said["prefix"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pre": "hunyuan"}, "pre 'hunyuan' is not supported; known are gpt-2"),
        ({"model": "t5"}, "model 't5' is not supported"),
        ({"merges": ["a b c"]}, "merges are not pairs"),
        ({"merges": ["q zz"]}, "merges are not pairs"),
        ({"token_type": np.ones(3)}, "token_type is no list of"),
        ({"tokens": ["a", "a"]}, "hold one twice"),
        ({"tokens": 7}, "tokens is missing, or no list"),
    ],
)
def test_what_is_not_known_is_refused_by_name(change, said):
    with pytest.raises(CheckpointError, match=said):
        tokens.build(metadata(trained(LEVEL), "gpt-2", **change))


def test_the_files_of_an_export_make_the_same_tokenizer(tmp_path):
    found = metadata(trained(LEVEL), "gpt-2", add_bos_token=True)
    found["tokenizer.chat_template"] = "{{ messages }}"
    described = tokens.build(found)
    for name, text in tokens.files(described.library, found).items():
        (tmp_path / name).write_text(text)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["chat_template"]
    again = tokenizer.read(tmp_path)
    assert (again.before, again.ends) == ((1,), (0,))
    assert again("two commands") == described.library.encode("two commands").ids
    assert special_tokens.read(tmp_path).add_bos is True


def test_texts_of_llama_3_begin_with_their_token_where_the_file_does_not_say_so():
    library = trained(LEVEL)
    for name, begins in (("llama-bpe", True), ("gpt-2", False)):
        found = metadata(library, name)
        del found["tokenizer.ggml.add_bos_token"]
        assert tokens.build(found).special.add_bos is begins


@pytest.mark.parametrize("name", [None, "default"])
def test_a_rule_that_is_llama_cpps_own_is_refused(name):
    with pytest.raises(CheckpointError, match=f"pre {str(name)!r} is not supported"):
        tokens.build(metadata(trained(LEVEL), name))


def test_a_piece_of_a_book_is_no_piece():
    said = {"model": "llama", "tokens": ["<unk>", "a" * 600], "scores": np.zeros(2)}
    with pytest.raises(CheckpointError, match="a piece of 600 letters"):
        tokens.build({f"tokenizer.ggml.{key}": value for key, value in said.items()})
