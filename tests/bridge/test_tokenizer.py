"""The tokenizer wrapper, on a small byte-level tokenizer trained here."""

import builtins
import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

import bridge
from bridge import tokenizer


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


def test_bos_is_off_unless_asked_for(file):
    plain, with_bos = tokenizer.read(file), tokenizer.read(file, add_bos=True)
    assert with_bos(" Spain") == [0, *plain(" Spain")]
    assert with_bos.decode([0]) == "<|endoftext|>"
    assert with_bos.single(" Spain") == plain.single(" Spain")


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
