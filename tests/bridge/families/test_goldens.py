"""Every family against what transformers 5.23.0 computed (record.py says how)."""

import functools
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights import bridge
from truncated_weights.bridge import network as model

ROOT = pathlib.Path(__file__).parents[2] / "data" / "families"
CASES = tuple(sorted(path.name for path in ROOT.iterdir()))


@functools.cache
def checkpoint(case):
    return bridge.load(ROOT / case)


@functools.cache
def golden(case):
    return dict(np.load(ROOT / case / "golden.npz"))


def error(found, expected, mask):
    """Largest difference over largest expected value, at the real positions."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    return np.max(np.abs(found - expected)[mask]) / np.max(np.abs(expected[mask]))


def test_every_family_is_recorded():
    assert len(CASES) == 24
    assert {checkpoint(case).config.family for case in CASES} == set(bridge.families.FAMILIES)


@pytest.mark.parametrize("case", CASES)
def test_logits_padded_on_either_side(case):
    recorded = golden(case)
    for side in ("none", "right", "left"):
        tokens, mask = recorded[f"{side}_tokens"], recorded[f"{side}_mask"]
        logits = bridge.logits(checkpoint(case), tokens, mask=mask)
        assert error(logits, recorded[f"{side}_logits"], mask) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_hidden_states(case):
    found, recorded = checkpoint(case), golden(case)
    mask = recorded["none_mask"]
    streams = model.residual_streams(
        found.params, found.config, jnp.asarray(recorded["none_tokens"])
    )
    if not found.config.masked:
        streams[-1] = model.final_norm(found.params, found.config, streams[-1])
    for index, stream in enumerate(streams):
        assert error(stream, recorded[f"none_hidden_{index}"], mask) < 1e-5


def test_a_text_within_the_original_length_uses_the_short_factors():
    recorded = golden("phi3_long")
    mask = recorded["short_mask"]
    logits = bridge.logits(checkpoint("phi3_long"), recorded["short_tokens"], mask=mask)
    assert error(logits, recorded["short_logits"], mask) < 1e-5


def test_a_long_text_does_not_change_its_neighbours():
    """transformers takes the longest text of a batch; here each goes by its own length."""
    long = checkpoint("phi3_long")
    tokens = golden("phi3_long")["none_tokens"]
    mask = np.arange(tokens.shape[1])[None] < np.array([[20], [10]])
    together = bridge.logits(long, tokens, mask=mask)
    alone = bridge.logits(long, tokens[1:, :10])
    assert error(together[1:, :10], alone, np.ones((1, 10), bool)) < 1e-6


def test_padding_of_a_masked_model_is_known_by_its_id():
    recorded = golden("roberta")
    tokens, mask = recorded["right_tokens"], recorded["right_mask"]
    assert np.array_equal(tokens != checkpoint("roberta").config.pad_id, mask)
    logits = bridge.logits(checkpoint("roberta"), tokens)
    assert error(logits, recorded["right_logits"], mask) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_logits_only_where_asked(case):
    found, recorded = checkpoint(case), golden(case)
    tokens, mask = (jnp.asarray(recorded[f"left_{name}"]) for name in ("tokens", "mask"))
    at = jnp.asarray([[19, 3], [7, 12]])
    logits = model.forward(found.params, found.config, tokens, mask, at=at)
    expected = recorded["left_logits"][np.arange(2)[:, None], np.asarray(at)]
    assert error(logits, expected, np.ones((2, 2), bool)) < 1e-5


@pytest.mark.parametrize("case", ["gptj", "llama3", "phi3", "roberta"])
def test_bfloat16_stays_near(case):
    recorded = golden(case)
    mask = recorded["none_mask"]
    rough = bridge.load(ROOT / case, dtype="bfloat16")
    assert rough.params["layers"][1]["fc_in"]["kernel"].dtype == jnp.bfloat16
    found = error(bridge.logits(rough, recorded["none_tokens"]), recorded["none_logits"], mask)
    assert 1e-4 < found < 0.15
