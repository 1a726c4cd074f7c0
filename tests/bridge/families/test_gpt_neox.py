"""Logits and hidden states against two recorded implementations, in every file format.

tiny_gpt_neox was recorded with PyTorch 1.13.1 and transformers 4.28.1 (float64 logits too);
golden_gpt_neox and the bfloat16 file by record_gpt_neox.py with transformers 5.23.0. These
files come from outside this code: if a test here fails, the code is wrong, not the file.
"""

import dataclasses
import pathlib

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights import bridge
from truncated_weights.bridge import families
from truncated_weights.bridge import network as model

DATA = pathlib.Path(__file__).parents[2] / "data"
TINY = DATA / "tiny_gpt_neox"
FORMATS = sorted(path.name for path in TINY.iterdir() if path.is_dir())


def close(actual, expected, real=None):
    """Within 1e-5 of the largest expected value, at the real positions."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    if real is not None:
        actual, expected = actual[real], expected[real]
    assert np.max(np.abs(actual - expected)) <= 1e-5 * np.max(np.abs(expected))


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(TINY / "golden.npz"))


def tiny(name, **keywords):
    return bridge.load(TINY / name, config=families.read(TINY / "config.json"), **keywords)


def normed_streams(checkpoint, tokens, mask):
    """Hidden states as transformers counts them: the last one after the final norm."""
    params, config = checkpoint.params, checkpoint.config
    streams = model.residual_streams(params, config, jnp.asarray(tokens), mask)
    return [*streams[:-1], model.final_norm(params, config, streams[-1])]


def test_all_formats_are_there():
    assert len(FORMATS) == 6


@pytest.mark.parametrize("name", FORMATS)
def test_logits_in_every_format(golden, name):
    logits = bridge.logits(tiny(name), golden["input_ids"])
    if "bf16" in name:
        expected = np.load(TINY / "golden_bfloat16_weights.npz")["logits"]
        assert np.max(np.abs(expected - golden["logits_fp64"])) > 1e-3
        close(logits, expected)
    else:
        close(logits, golden["logits_fp64"])
        close(logits, golden["logits_fp32"])


@pytest.mark.parametrize("name", [name for name in FORMATS if "bf16" not in name])
def test_hidden_states_in_every_format(golden, name):
    checkpoint = tiny(name)
    states = normed_streams(checkpoint, golden["input_ids"], None)
    for index, state in enumerate(states):
        close(state, golden[f"hidden_{index}"])


def test_sequential_residual(golden):
    parallel = tiny("zip_fp32")
    config = dataclasses.replace(parallel.config, residual="pre")
    checkpoint = dataclasses.replace(parallel, config=config)
    close(bridge.logits(checkpoint, golden["input_ids"]), golden["logits_fp32_sequential_residual"])


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_on_either_side(golden, side):
    mask = golden[f"{side}_mask"].astype(bool)
    logits = bridge.logits(tiny("zip_fp32"), golden[f"{side}_ids"], mask=mask)
    name = "right_logits" if side == "right" else "left_logits_mask_positions"
    close(logits, golden[name], mask)
    last = mask.shape[1] - 1 - np.argmax(mask[:, ::-1], axis=1)
    close(np.asarray(logits)[np.arange(len(mask)), last], golden["unpadded_last"])


def test_bfloat16_activations_stay_near(golden):
    checkpoint = tiny("zip_fp32", dtype="bfloat16")
    assert checkpoint.params["layers"][0]["fc_in"]["kernel"].dtype == jnp.bfloat16
    streams = model.residual_streams(
        checkpoint.params, checkpoint.config, jnp.asarray(golden["input_ids"])
    )
    assert all(stream.dtype == jnp.bfloat16 for stream in streams)
    logits = np.asarray(bridge.logits(checkpoint, golden["input_ids"]))
    # Two implementations that round to 8 bits differ from each other about as much as
    # either does from the exact values.
    error = np.abs(logits - golden["logits_fp64"])
    recorded = np.abs(golden["logits_bf16"] - golden["logits_fp64"])
    assert np.sqrt(np.mean(error**2)) < 1.5 * np.sqrt(np.mean(recorded**2))


def test_files_of_todays_torch_with_views_and_strides():
    """The same weights saved by torch 2.13: final norm two views of one storage, the
    unembedding in Fortran order."""
    expected = bridge.load(DATA / "golden_gpt_neox" / "sequential")
    found = bridge.load(DATA / "golden_gpt_neox" / "torch_2_13", config=expected.config)
    chex.assert_trees_all_equal(found.params, expected.params)


@pytest.mark.parametrize("case", ["parallel", "sequential"])
@pytest.mark.parametrize("side", ["none", "right", "left"])
def test_second_recording(case, side):
    checkpoint = bridge.load(DATA / "golden_gpt_neox" / case)
    recorded = dict(np.load(DATA / "golden_gpt_neox" / case / "golden.npz"))
    tokens, mask = recorded[f"{side}_tokens"], recorded[f"{side}_mask"].astype(bool)
    close(bridge.logits(checkpoint, tokens, mask=mask), recorded[f"{side}_logits"], mask)
    for index, state in enumerate(normed_streams(checkpoint, tokens, jnp.asarray(mask))):
        close(state, recorded[f"{side}_hidden_{index}"], mask)
