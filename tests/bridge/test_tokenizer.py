"""The tokenizer wrapper, on a small byte-level tokenizer trained here."""

import builtins
import dataclasses
import json
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from truncated_weights import bridge
from truncated_weights.bridge import encoding, scoring, tokenizer
from truncated_weights.bridge.tasks import Example, TaskError
from truncated_weights.bridge.tasks.example import only_single_tokens, single_tokens


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Byte-level BPE with <|endoftext|> as id 0, as GPT-NeoX has it; truncating, padding."""
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator(["Madrid is located in Spain, the capital of Spain. "] * 9, trainer)
    library.enable_truncation(2)
    library.enable_padding(length=9)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    library.save(str(path))
    return path


def test_text_survives_and_is_neither_cut_nor_padded(file):
    encode = tokenizer.read(file.parent)
    for text in ("Madrid is located in Spain", " two  spaces", "Füße\n", ""):
        assert encode.decode(encode(text)) == text
    assert len(encode("Madrid is located in Spain, the capital")) > 2
    assert len(encode("a")) == 1


@pytest.mark.fault("C8")
@pytest.mark.parametrize(
    "part",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        {"pre_tokenizer": None, "model": {"type": "Unigram", "unk_id": None, "vocab": [["b", -1]]}},
        {"model": []},
    ],
    ids=["panics", "panics when it encodes", "knows no letter", "no model"],
)
def test_a_tokenizer_that_fails_inside_its_library(file, tmp_path, part, capfd):
    bad = tmp_path / "tokenizer.json"
    bad.write_text(json.dumps(json.loads(file.read_text()) | part))
    with pytest.raises(bridge.CheckpointError, match="not a tokenizer") as caught:
        tokenizer.read(bad)
    assert str(caught.value).startswith(str(bad))
    assert capfd.readouterr().err == ""


@pytest.mark.fault("C8")
def test_texts_and_ids_that_the_library_cannot_take(file):
    words = tokenizer.read(file)
    for call in (lambda: words.decode([2**40]), lambda: words("\ud800")):
        with pytest.raises(bridge.CheckpointError, match="coding"):
            call()


@pytest.mark.fault("C1")
def test_a_pipe_is_no_tokenizer(tmp_path):
    os.mkfifo(tmp_path / "tokenizer.json")
    with pytest.raises(bridge.CheckpointError, match="not a regular file"):
        tokenizer.read(tmp_path / "tokenizer.json")


def test_bos_is_off_unless_asked_for(file):
    plain = tokenizer.read(file)
    assert plain.prefix() == ()
    assert plain.prefix(True) == (0,)
    assert plain.decode([0]) == "<|endoftext|>"
    none = dataclasses.replace(plain, bos=None)
    with pytest.raises(ValueError, match="this tokenizer has none of"):
        none.prefix(True)


def with_template(library, template):
    """The library with a post_processor, as the files of Llama and RoBERTa have it."""
    ids = [(name, library.token_to_id(name)) for name in ("<s>", "</s>")]
    library.post_processor = tokenizers.processors.TemplateProcessing(
        single=template, special_tokens=ids
    )
    return library


@pytest.fixture(scope="module")
def sentencepiece():
    """BPE that puts a space before every text, as Llama 2's converted SentencePiece does."""
    library = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True))
    library.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="always")
    library.decoder = tokenizers.decoders.Metaspace(prepend_scheme="always")
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=120, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    library.train_from_iterator(["a the Madrid is in Spain, the capital of Spain "] * 9, trainer)
    normalise = tokenizers.normalizers
    library.normalizer = normalise.Sequence([normalise.Prepend("▁"), normalise.Replace(" ", "▁")])
    library.pre_tokenizer = None
    return library


@pytest.mark.parametrize(
    ("template", "before", "after"),
    [("<s> $A", (1,), ()), ("<s> $A </s>", (1,), (2,)), ("$A", (), ())],
)
def test_the_post_processor_says_what_stands_around_a_text(
    sentencepiece, tmp_path, template, before, after
):
    with_template(sentencepiece, template).save(str(tmp_path / "tokenizer.json"))
    words = tokenizer.read(tmp_path)
    assert (words.before, words.after, words.bos) == (before, after, 1)
    assert words.prefix() == before
    assert words.prefix(True) == (1,)
    whole = words.library.encode("Madrid is", add_special_tokens=True).ids
    assert [*before, *words("Madrid is"), *after] == whole


FILES = {
    "tokenizer_config.json": {"bos_token": "<s>", "eos_token": {"content": "</s>"}},
    "config.json": {"bos_token_id": 2, "eos_token_id": [0, 2]},
}


@pytest.mark.fault("A6")
@pytest.mark.parametrize(
    ("template", "files", "asked", "before", "told"),
    [
        # Phi-3 names <s>, and has <|endoftext|> too.
        ("$A", FILES, True, (1,), "'<s>', as asked for, by bos_token of tokenizer_config.json"),
        ("$A", FILES, False, (), "no special token, by tokenizer.json"),
        (
            "$A",
            {"config.json": {"bos_token_id": 2}},
            True,
            (2,),
            "'</s>', as asked for, by bos_tok",
        ),
        ("$A", {}, True, (1,), "'<s>', as asked for, by its name, for no file names one"),
        ("<s> $A", FILES, False, (1,), "'<s>', by tokenizer.json"),
        ("$A", {"add": True}, False, (1,), "'<s>', by add_bos_token of tokenizer_config.json"),
        ("<s> $A", {"add": True}, True, (1,), "'<s>', by add_bos_token of tokenizer_config.json"),
        (
            "<s> $A",
            {"add": False},
            False,
            (),
            "no special token, by add_bos_token of tokenizer_con",
        ),
        (
            "<s> $A",
            {"add": False},
            True,
            (1,),
            "'<s>', as asked for, by bos_token of tokenizer_conf",
        ),
        ("<s> $A", {"add": None}, False, (1,), "'<s>', by tokenizer.json"),
    ],
)
def test_the_files_say_which_token_begins_a_text(
    sentencepiece, tmp_path, template, files, asked, before, told
):
    if "add" in files:
        said = FILES["tokenizer_config.json"] | {"add_bos_token": files["add"]}
        files = FILES | {"tokenizer_config.json": said}
    library = tokenizers.Tokenizer.from_str(sentencepiece.to_str())
    library.add_special_tokens(["<|endoftext|>"])
    with_template(library, template).save(str(tmp_path / "tokenizer.json"))
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    words = tokenizer.read(tmp_path)
    assert words.prefix(asked) == before
    assert words.begins(asked).startswith(f"texts begin with {told}")
    assert words.ends == ((2, 0) if "tokenizer_config.json" in files else ())


@pytest.mark.fault("A6")
@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "tokenizer_config.json",
            {"add_bos_token": "yes"},
            "add_bos_token is 'yes'; expected true,",
        ),
        ("tokenizer_config.json", {"bos_token": 7}, "bos_token is '7'; expected a text"),
        ("config.json", {"bos_token_id": "1"}, "bos_token_id is '1'; expected a number"),
        ("tokenizer_config.json", {"add_bos_token": True}, "is true, but no file names a token"),
    ],
)
def test_files_that_do_not_say_it(file, tmp_path, name, content, told):
    library = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, []))
    library.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(bridge.CheckpointError, match=told):
        tokenizer.read(tmp_path)


def test_what_stands_around_the_texts_of_a_masked_model(sentencepiece, tmp_path):
    framed = with_template(sentencepiece, "<s> $A </s>")
    framed.save(str(tmp_path / "tokenizer.json"))
    words = tokenizer.read(tmp_path)
    assert words.around(False) == {"prefix": (1,)}
    with pytest.raises(ValueError, match="a masked model needs a tokenizer that has <mask>"):
        words.around(True)
    words.library.add_special_tokens(["<mask>"])
    words.library.save(str(tmp_path / "tokenizer.json"))
    words = tokenizer.read(tmp_path)
    mask = words.library.token_to_id("<mask>")
    assert words.around(True) == {"prefix": (1,), "mask_token": mask, "suffix": (2,)}


def test_a_text_that_begins_with_a_space_continues_another(sentencepiece, tmp_path):
    sentencepiece.save(str(tmp_path / "tokenizer.json"))
    words = tokenizer.read(tmp_path)
    assert words.prepends_space
    for word in (" Spain", " the"):
        together = words("Madrid is in" + word)
        assert words("Madrid is in") + words(word) == together
        assert words.single(word) == together[-1]
    # Without that rule the space is there twice.
    assert len(words._plain(" Spain")) == 2


def test_a_prompt_of_such_a_tokenizer_is_encoded_with_its_answer(sentencepiece, tmp_path):
    with_template(sentencepiece, "<s> $A").save(str(tmp_path / "tokenizer.json"))
    words = tokenizer.read(tmp_path)
    example = Example("Madrid is in", " Spain", (" the",))
    encoded = encoding.encode_examples(
        [example], words, num_tokens=words.size, prefix=words.prefix()
    )
    row = encoded.batch.tokens[0, 0][encoded.batch.mask[0, 0]]
    assert row.tolist() == [1, *words("Madrid is in")]
    assert encoded.batch.targets[0, 0, 0] == words.single(" Spain")
    assert encoded.batch.rivals.tolist() == [[words.single(" the")]]


def test_padding_that_is_listed_as_tokens_is_not_counted(file, tmp_path):
    library = tokenizers.Tokenizer.from_file(str(file))
    size = library.get_vocab_size()
    library.add_tokens([f"<|extratoken_{i}|>" for i in range(1, 6)])
    library.save(str(tmp_path / "tokenizer.json"))
    words = tokenizer.read(tmp_path)
    assert words.library.get_vocab_size() == size + 5
    assert words.size == size


def test_single_tokens(file):
    encode = tokenizer.read(file)
    assert encode([" Spain"][0]) == [encode.single(" Spain")]
    with pytest.raises(ValueError, match=r"' xyz' is not one token but \d: ' ' 'x' 'y' 'z'"):
        encode.single(" xyz")


def test_size_counts_the_special_tokens_and_masks_the_padding_rows(file):
    encode = tokenizer.read(file)
    raw = json.loads(file.read_text())
    assert encode.size == len(raw["model"]["vocab"])
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, encode.size + 11)))
    logits = logits.at[..., encode.size + 4].set(100.0)
    masked = tokenizer.mask_padding(logits, encode.size)
    assert masked.shape == logits.shape
    np.testing.assert_array_equal(masked[..., : encode.size], logits[..., : encode.size])
    assert np.all(np.asarray(masked)[..., encode.size :] == -np.inf)
    assert np.all(np.asarray(jnp.argmax(masked, axis=-1)) < encode.size)


def test_files_that_are_not_tokenizers(tmp_path):
    with pytest.raises(bridge.CheckpointError, match=r"no tokenizer\.json"):
        tokenizer.read(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(bridge.CheckpointError, match=r"tokenizer\.json: not a tokenizer"):
        tokenizer.read(tmp_path)


def test_without_the_library_one_line_says_what_to_install(file, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "tokenizers":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match="needs the tokenizers library: pip install"):
        tokenizer.read(file)


def test_importing_the_package_is_light():
    """No device is touched and no optional library imported."""
    code = (
        "import sys, bridge, bridge.export, bridge.sharding, bridge.hub, bridge.tokenizer\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'huggingface_hub', 'safetensors'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def word_level(folder, vocabulary):
    """A tokenizer of whole words, ids as given, that reads every other word as <unk>."""
    library = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    library.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    library.save(str(folder / "tokenizer.json"))
    return tokenizer.read(folder)


@pytest.mark.fault("A4")
def test_a_vocabulary_with_holes_is_as_large_as_its_largest_id(tmp_path):
    words = word_level(tmp_path, {"<unk>": 0, "the": 1, "Madrid": 2, "in": 3, "Spain": 9})
    assert (words.size, words.holes) == (10, ((4, 9),))
    logits = jnp.zeros((1, 12)).at[0, 5].set(9.0)
    masked = tokenizer.mask_padding(logits, words.size, words.holes)
    assert jnp.isneginf(masked[0]).tolist() == [False] * 4 + [True] * 5 + [False] + [True] * 2
    encoded = encoding.encode_examples(
        (Example("Madrid in", " Spain"),), words, num_tokens=words.size
    )
    config = bridge.Config(vocab_size=12, num_layers=1, d_model=8, num_heads=1, d_ff=4)
    batch = encoded.batch
    found = scoring.scores_of_logits(logits[None, None], batch, encoded.vocabulary)
    # Of ten ids five are tokens, all alike here; the loud one means nothing.
    np.testing.assert_allclose(found["loss"], np.log(5), rtol=1e-6)
    assert (found["rank"], found["accuracy"]) == (5, 0)
    stream = jnp.zeros((1, 1, 8))
    params = {"final_norm": {"scale": jnp.ones(8), "bias": jnp.zeros(8)}}
    params["embed_out"] = {"kernel": jnp.zeros((8, 12))}
    law = scoring.first_probabilities(params, config, stream, batch, encoded.vocabulary)
    np.testing.assert_allclose(law[0], [0.2] * 4 + [0] * 5 + [0.2], rtol=1e-6)


@pytest.mark.fault("A2")
def test_an_unknown_token_is_no_single_token(tmp_path):
    words = word_level(tmp_path, {"<unk>": 0, "Madrid": 1, "Spain": 2})
    assert words.single(" Spain") == 2
    with pytest.raises(ValueError, match="' the' is no token: it is read as '<unk>'"):
        words.single(" the")
    with pytest.raises(TaskError, match="' the' is no token of this tokenizer"):
        encoding.encode_examples((Example("Madrid", " Spain"),), words, num_tokens=3)
    assert single_tokens(["Spain", "France"], words, what="names") == (
        ["Spain"],
        ("1 of 2 names are not single tokens: France (unknown)",),
    )
    both = (Example("Madrid", " Spain", (" France",)), Example("Paris", " France"))
    task = only_single_tokens(both, words, name="places")
    assert [(e.answer, e.distractors) for e in task.examples] == [(" Spain", ())]
    assert "1 of 2 examples dropped" in task.dropped[0]
