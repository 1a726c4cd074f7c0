"""A real model asked from the middle, and what is said of its changes."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from truncated_weights import bridge
from truncated_weights.bridge.gguf import package
from truncated_weights.experiments.real_model import asking, claims, verdict
from truncated_weights.experiments.real_model.measure import STUDY
from truncated_weights.experiments.real_model.settings import RealModel
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.program import Place
from truncated_weights.training.records import Records

LLAMA = "tests/data/families/llama3"


class Words:
    """A tokenizer of which only the size is asked."""

    size, holes = 61, ()


@pytest.fixture(scope="module")
def llama():
    found = bridge.load(LLAMA)
    Words.size = found.config.vocab_size
    return found


@pytest.fixture(scope="module")
def asked(llama):
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, llama.config.vocab_size, n).tolist() for n in (5, 3, 7)]
    return asking.Asked(llama, Words(), asking._padded(rows))


def laws(model, tokens):
    return np.asarray(jax.nn.log_softmax(bridge.logits(model, tokens)))


def test_laws_are_those_of_whole_forwards_of_edited_weights(llama, asked):
    """Prompt by prompt without padding, and the edited model from its tokens."""
    edited = bridge.cut(llama, "1.fc_in@0.3")
    for model, layer in ((llama, 1), (edited, 1)):
        found = asked.laws(model.params, layer)
        for row, (tokens, mask) in enumerate(
            zip(asked.prompts.tokens, asked.prompts.mask, strict=True)
        ):
            np.testing.assert_allclose(
                found[row], laws(model, tokens[mask][None])[0, -1], atol=2e-5
            )


def test_moments_leave_padding_out(llama, asked):
    found = asked.moments((1, "fc_in"))
    assert found.number == 15
    rows = []
    for tokens, mask in zip(asked.prompts.tokens, asked.prompts.mask, strict=True):
        alone = asking.Asked(llama, Words(), asking._padded([tokens[mask].tolist()]))
        rows.append(alone.moments((1, "fc_in")).inputs)
    np.testing.assert_allclose(found.inputs, sum(rows), rtol=1e-4, atol=1e-4)


def test_the_loss_on_text_and_the_distance_to_the_full_model(llama):
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, llama.config.vocab_size, (2, 16)).astype(np.int32)
    text = asking.Asked(llama, Words(), asking.Prompts(tokens, np.ones_like(tokens, bool)))
    full, reference = text.text(llama.params, 0, None)
    law = laws(llama, tokens)[:, :-1]
    each = np.take_along_axis(law, tokens[:, 1:, None], axis=-1)
    assert full == {"loss": pytest.approx(-each.mean(), rel=1e-5), "kl": 0.0, "same": 1.0}
    edited = bridge.cut(llama, "0.fc_out@0.3")
    found, _ = text.text(edited.params, 0, reference)
    other = laws(edited, tokens)[:, :-1]
    kl = np.sum(np.exp(law) * (law - other), axis=-1).mean()
    assert found["kl"] == pytest.approx(kl, rel=1e-2)
    assert found["same"] == np.mean(law.argmax(-1) == other.argmax(-1))


def records(gain, closed, reworded):
    """Eighty cities of twenty countries; the cut is right in so many more, spread evenly."""
    items = 80

    def right(share):
        return (np.arange(items) % 10 < 10 * share).astype(float)

    full = {"asked": 0.1, "reworded": 0.3}
    cut = {"asked": 0.1 + gain, "reworded": 0.3 + reworded}
    values = np.array([[right(m[w]) for w in ("asked", "reworded")] for m in (full, cut)])
    choice = np.array([[right(0.3)] * 2, [right(0.3 + closed)] * 2])
    coords = {"model": ["full", "1.fc_in@0.1"], "wording": ["asked", "reworded"]}
    axes = ("model", "wording", "item")
    answers = xr.Dataset(
        {"accuracy": (axes, values), "closed": (axes, choice), "loss": (axes, 1 - values)}, coords
    )
    country = np.repeat([f"c{i}" for i in range(20)], 4)
    about = xr.Dataset({"country": ("item", country), "chooses": ("item", np.arange(80) < 16)})
    found = Records({"answers": answers, "about": about})
    return Records({**found, "changes": verdict.changes(RealModel(samples=400), found)})


@pytest.mark.parametrize(
    ("gain", "closed", "reworded", "said"),
    [
        (0.4, 0.0, 0.0, "hardly any knowledge comes out"),
        (0.3, 0.3, 0.0, "the choice among the countries gain too: the cut uncovers answers"),
        (0.3, 0.3, 0.3, "and the reworded prompt gain too"),
        (0.0, 0.3, 0.3, "cannot be told from doing nothing"),
        (0.2, 0.1, 0.0, "gain too|too wide to tell"),
    ],
)
def test_the_sentence_follows_from_the_intervals(gain, closed, reworded, said):
    assert re.search(said, verdict.sentence(records(gain, closed, reworded)))


def test_the_claim_asks_what_the_sentence_says():
    assert claims.SHARE == verdict.SHARE


def test_changes_are_of_the_cities_that_did_not_choose():
    found = records(0.3, 0.0, 0.0).changes.sel(model="1.fc_in@0.1", wording="asked")
    assert found.attrs["items"] == 64
    assert float(found.accuracy_change) == pytest.approx(0.3, abs=0.02)
    assert float(found.accuracy_low) < 0.3 < float(found.accuracy_high)
    # Of countries that are all alike in every ten cities the interval is narrow.
    assert float(found.accuracy_high - found.accuracy_low) < 0.4


def test_the_manual_is_prose_that_every_python_has():
    assert len(asking.manual()) > 300_000
    assert "statement" in asking.manual()


@pytest.mark.thorough
@pytest.mark.skipif(not package.there("smollm2"), reason="no model in the cache: make real")
def test_on_the_real_model_mass_moves_and_no_knowledge_comes_out(tmp_path):
    config = RealModel(
        rhos=("0.1", "-0.002", "whitened:-0.002"), along=0, moment_tokens=2048, text_tokens=512
    )
    assert not study.run(STUDY, config, Place("real_model", str(tmp_path / "out")))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    # " the" falls from a third to almost nothing.
    assert summary["asked/full/p_the"] == pytest.approx(0.35, abs=0.05)
    assert summary["asked/28.fc_in@0.1/p_the"] < 0.1
    assert summary["asked/28.fc_in@0.1/accuracy_low"] > 0.1
    # Of the largest singular value nothing changes, of the data's first component much.
    assert abs(summary["asked/28.fc_out@-0.002/p_the_change"]) < 0.03
    assert summary["asked/28.fc_out@whitened:-0.002/p_the_change"] < -0.1
    assert "hardly any knowledge" in summary["verdict"]
    assert (tmp_path / "out" / "figures" / "real_model.png").stat().st_size > 20_000


@pytest.mark.thorough
@pytest.mark.skipif(not package.there("smollm2"), reason="no model in the cache: make real")
def test_the_real_file_is_read_as_the_recorded_tokens_and_laws():
    model = bridge.load(package.place("smollm2"))
    words = model.tokenizer
    # Digits one by one, everything else as bytes of its words.
    assert words("Paris is located in") == [38634, 314, 3807, 281]
    assert [words.decode([token]) for token in words(" 1995")] == [" ", "1", "9", "9", "5"]
    assert (words.begins(), model.quantised["blk.0.ffn_up.weight"]) == (
        "texts begin with no special token, by tokenizer.ggml.add_bos_token", "Q4_1",
    )  # fmt: skip
    law = jax.nn.softmax(bridge.logits(model, jnp.array([words("Paris is located in")]))[0, -1])
    top = int(law.argmax())
    assert (words.decode([top]), round(float(law[top]), 3)) == (" the", 0.216)
