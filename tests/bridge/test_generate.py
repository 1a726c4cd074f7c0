"""Generation with kept keys and values against whole forward passes, token for token."""

import dataclasses
import importlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.bridge.families.test_goldens import CASES, checkpoint, golden
from truncated_weights import bridge
from truncated_weights.bridge import network as model
from truncated_weights.bridge import surgery
from truncated_weights.truncation import editing

# The name in the package is the function.
generation = importlib.import_module("truncated_weights.bridge.generate")
CAUSAL = tuple(case for case in CASES if not case.startswith("roberta"))


def whole_passes(found, tokens, mask, new, choose):
    """Tokens from one forward of the whole text each; one shape, so one compilation."""
    batch, length = tokens.shape
    tokens = np.concatenate([tokens, np.zeros((batch, new), np.int32)], axis=1)
    mask = np.concatenate([mask, np.zeros((batch, new), bool)], axis=1)
    for index in range(new):
        last = np.max(np.where(mask, np.arange(mask.shape[1]), 0), axis=1, keepdims=True)
        logits = model.forward(
            found.params, found.config, jnp.asarray(tokens), jnp.asarray(mask), jnp.asarray(last)
        )
        tokens[:, length + index] = choose(logits[:, 0], index)
        mask[:, length + index] = True
    return tokens[:, length:]


def greedy(logits, index):
    return np.argmax(logits, axis=-1)


@pytest.mark.parametrize("case", CAUSAL)
def test_the_tokens_that_transformers_chose(case):
    recorded = golden(case)
    side = "short" if "short_tokens" in recorded else "left"
    found = bridge.generate(
        checkpoint(case),
        recorded[f"{side}_tokens"],
        mask=recorded[f"{side}_mask"],
        max_new_tokens=recorded["greedy"].shape[1],
        ends=(),
    )
    np.testing.assert_array_equal(found, recorded["greedy"])


@pytest.mark.parametrize(
    ("case", "side"), [("gpt2", "left"), ("mistral", "right"), ("phi3_long", "left")]
)
def test_greedy_and_sampled_equal_whole_passes(case, side):
    """Past the window of 6, and for phi3_long across the original length of 12."""
    found = checkpoint(case)
    rng = np.random.default_rng(3)
    tokens = rng.integers(5, 61, (3, 9)).astype(np.int32)
    count = np.array([[9], [4], [6]])
    columns = np.arange(9)[None]
    mask = columns < count if side == "right" else columns >= 9 - count
    kept = bridge.generate(found, tokens, mask=mask, max_new_tokens=12, ends=())
    np.testing.assert_array_equal(kept, whole_passes(found, tokens, mask, 12, greedy))

    key = jax.random.key(7)

    def sampled(logits, index):
        return jax.random.categorical(jax.random.fold_in(key, index), logits / 0.7)

    kept = bridge.generate(
        found, tokens, mask=mask, max_new_tokens=12, ends=(), temperature=0.7, key=key
    )
    np.testing.assert_array_equal(kept, whole_passes(found, tokens, mask, 12, sampled))


@pytest.mark.slow
def test_fourteen_prompts_of_every_model():
    """Prompts of 1 to 20 tokens, 14 per case; cached equals uncached, token for token."""
    rng = np.random.default_rng(0)
    prompts = 0
    for place, case in enumerate(CAUSAL):
        found, count = checkpoint(case), 14 + (place < 4)
        tokens = rng.integers(0, found.config.vocab_size, (count, 20)).astype(np.int32)
        mask = np.arange(20)[None] >= rng.integers(0, 20, (count, 1))
        kept = bridge.generate(found, tokens, mask=mask, max_new_tokens=16, ends=())
        np.testing.assert_array_equal(kept, whole_passes(found, tokens, mask, 16, greedy))
        prompts += len(tokens)
    assert prompts == 14 * len(CAUSAL) + 4


def test_cut_and_factored_weights():
    found = checkpoint("llama3")
    tokens = golden("llama3")["none_tokens"]
    addresses = surgery.matrices(found.config)
    cut = editing.apply(found.params, "1.fc_out@0.2+0.q_proj@0.3", addresses)
    dense = dataclasses.replace(found, params=cut)
    left = np.linalg.svd(np.asarray(cut["layers"][1]["fc_out"]["kernel"]), full_matrices=False)
    rank = 8
    factors = {
        "kernel_in": jnp.asarray(left[0][:, :rank] * left[1][:rank]),
        "kernel_out": jnp.asarray(left[2][:rank]),
    }
    layers = [cut["layers"][0], {**cut["layers"][1], "fc_out": factors}]
    thin = dataclasses.replace(found, params={**cut, "layers": layers})
    expected = whole_passes(dense, tokens, np.ones(tokens.shape, bool), 6, greedy)
    assert not np.array_equal(expected, bridge.generate(found, tokens, max_new_tokens=6, ends=()))
    for one in (dense, thin):
        np.testing.assert_array_equal(
            bridge.generate(one, tokens, max_new_tokens=6, ends=()), expected
        )


def test_a_row_ends_with_its_stop_token():
    found, tokens = checkpoint("gpt2"), golden("gpt2")["none_tokens"]
    free = bridge.generate(found, tokens, max_new_tokens=8, ends=())
    stop = int(free[0, 3])
    first = [int(np.argmax(row == stop)) if stop in row else 8 for row in free]
    ended = bridge.generate(found, tokens, max_new_tokens=8, ends=(), stop=[stop])
    for row, end in enumerate(first):
        np.testing.assert_array_equal(ended[row, : end + 1], free[row, : end + 1])
        assert np.all(ended[row, end + 1 :] == -1)


class Letters:
    """Every id is one letter; enough of a tokenizer to look for stop texts."""

    size = 61
    holes = ()
    ends = ()

    def decode(self, ids):
        return "".join(chr(65 + token) for token in ids)


@pytest.mark.fault("A5")
def test_a_row_ends_with_every_token_that_ends_a_text(tmp_path):
    """One in config.json, a list in generation_config.json; found where they lie."""
    found, tokens = checkpoint("gpt2"), golden("gpt2")["none_tokens"]
    free = bridge.generate(found, tokens, max_new_tokens=8, ends=())
    ends = (int(free[0, 3]), 59, 60)
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": ends[0]}))
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [59, 60]}')
    here = dataclasses.replace(found, directory=tmp_path)
    assert here.ends == ends
    ended = bridge.generate(here, tokens, max_new_tokens=8)
    given = bridge.generate(found, tokens, max_new_tokens=8, ends=here.ends)
    np.testing.assert_array_equal(ended, given)
    for row, whole in zip(ended, free, strict=True):
        stops = np.flatnonzero(np.isin(whole, here.ends))
        last = int(stops[0]) if len(stops) else 7
        np.testing.assert_array_equal(row[: last + 1], whole[: last + 1])
        assert np.all(row[last + 1 :] == -1)
    assert np.any(ended == -1)
    for wrong in ('"2"', "[1.5]", "true"):
        (tmp_path / "generation_config.json").write_text(f'{{"eos_token_id": {wrong}}}')
        damaged = dataclasses.replace(found, directory=tmp_path)
        with pytest.raises(
            bridge.CheckpointError, match=r"generation_config\.json: eos_token_id is"
        ):
            bridge.generate(damaged, tokens, max_new_tokens=8)


def test_a_row_ends_with_the_text_that_stops_it(monkeypatch):
    found, tokens = checkpoint("gpt2"), golden("gpt2")["none_tokens"]
    free = bridge.generate(found, tokens, max_new_tokens=20, ends=())
    monkeypatch.setattr(bridge.Checkpoint, "tokenizer", Letters())
    text = Letters().decode(free[1, 16:18])
    end = Letters().decode(free[1]).index(text) + 1
    ended = bridge.generate(found, tokens, max_new_tokens=20, ends=(), stop=[text])
    np.testing.assert_array_equal(ended[1, : end + 1], free[1, : end + 1])
    assert np.all(ended[1, end + 1 :] == -1)
    if text not in Letters().decode(free[0]):
        np.testing.assert_array_equal(ended[0], free[0])


def test_ids_that_no_text_can_mean_are_never_chosen(monkeypatch):
    found, tokens = checkpoint("gpt2"), golden("gpt2")["none_tokens"]
    few = Letters()
    few.size = 7
    monkeypatch.setattr(bridge.Checkpoint, "tokenizer", few)
    monkeypatch.setattr(bridge.Checkpoint, "has_tokenizer", True)
    assert bridge.generate(found, tokens, max_new_tokens=8).max() < 7


@pytest.mark.parametrize(
    ("case", "change", "complaint"),
    [
        ("roberta", {}, "a roberta fills masks in; it does not continue a text"),
        ("gpt2", {"temperature": 1.0}, "sampling needs a key"),
        ("gpt2", {"temperature": -1.0}, "temperature is -1.0"),
        ("gpt2", {"max_new_tokens": 0}, "max_new_tokens is 0"),
        ("gpt2", {"max_new_tokens": 47}, "2 tokens and 47 new ones exceed the 48 positions"),
        ("gpt2", {"mask": np.array([[False, False]])}, "a prompt has no tokens"),
        ("gpt2", {"tokens": np.array([[61, 0]])}, "tokens run from 0 to 61; expected 0 to 60"),
    ],
)
def test_what_cannot_be_generated_is_refused(case, change, complaint):
    arguments = {"tokens": np.array([[3, 4]]), "max_new_tokens": 4} | change
    with pytest.raises(ValueError, match=complaint):
        bridge.generate(checkpoint(case), arguments.pop("tokens"), **arguments)
    with pytest.raises(bridge.CheckpointError, match="no tokenizer"):
        bridge.generate(checkpoint("gpt2"), np.array([[3]]), max_new_tokens=1, stop=["a"])


@pytest.mark.parametrize("case", ["gpt2", "mistral", "phi3_long"])
def test_a_beginning_that_all_prompts_share_runs_once(case, monkeypatch):
    """The same tokens as whole passes, past the window of 6 too; a LongRope shares nothing."""
    monkeypatch.setattr(generation, "_SHARED_STEP", 4)
    found = checkpoint(case)
    rng = np.random.default_rng(4)
    tokens = rng.integers(5, 61, (3, 12)).astype(np.int32)
    tokens[:, :9] = tokens[0, :9]
    mask = np.arange(12) < np.array([[12], [10], [11]])
    assert generation._shared(found.config, tokens, mask) == (0 if case == "phi3_long" else 8)
    expected = whole_passes(found, tokens, mask, 4, greedy)
    chosen = bridge.generate(found, tokens, mask=mask, max_new_tokens=4)
    np.testing.assert_array_equal(chosen, expected)


def test_what_is_shared_leaves_every_row_a_token(monkeypatch):
    monkeypatch.setattr(generation, "_SHARED_STEP", 1)
    config = checkpoint("gpt2").config
    tokens, mask = np.zeros((2, 6), np.int32), np.ones((2, 6), bool)
    assert generation._shared(config, tokens, mask) == 5
    assert generation._shared(config, tokens[:1], mask[:1]) == 0
    assert generation._shared(config, tokens, np.arange(6) < [[6], [3]]) == 2
    # Padding on the left: no column holds one text in every row.
    assert generation._shared(config, tokens, np.arange(6) >= [[0], [1]]) == 0
    tokens[1, 2] = 1
    assert generation._shared(config, tokens, mask) == 2
    monkeypatch.setattr(generation, "_SHARED_STEP", 32)
    assert generation._shared(config, tokens, mask) == 0


@pytest.mark.fault("D3")
def test_it_is_traced_the_same_where_64_bits_are_switched_on():
    found = checkpoint("gpt_neox")
    tokens, mask = jnp.ones((2, 3), jnp.int32), jnp.ones((2, 3), bool)
    made = {
        "config": found.config,
        "greedy": True,
        "real": (found.config.vocab_size, generation.Holes()),
    }
    shapes = []
    for wide in (False, True):
        with jax.enable_x64(wide):
            choice = generation._Choice(jax.random.key(0), jnp.float32(0), jnp.zeros(0, jnp.int32))
            state = generation._start.eval_shape(
                found.params, tokens, mask, choice, new=2, shared=0, **made
            )
            end = generation._go_on.eval_shape(found.params, state, jnp.int32(2), choice, **made)
            shapes.append((state, end))
    assert shapes[0] == shapes[1]


@pytest.mark.fault("A1")
def test_a_model_without_numbers_says_nothing(monkeypatch):
    """argmax takes NaN for the largest: it would say token 0 for ever."""
    found = checkpoint("gpt2")
    layers = list(found.params["layers"])
    norm = layers[0]["attn_norm"]
    layers[0] = {**layers[0], "attn_norm": {**norm, "scale": norm["scale"] * jnp.nan}}
    broken = dataclasses.replace(found, params={**found.params, "layers": layers}, directory=None)
    tokens = np.arange(5, 32, dtype=np.int32).reshape(3, 9)
    told = "this gpt2: logits behind 3 of 3 texts are not finite; layer 0 is the first"
    with pytest.raises(bridge.NotFiniteError, match=told):
        bridge.generate(broken, tokens, max_new_tokens=12)
    monkeypatch.setattr(bridge.Checkpoint, "tokenizer", Letters())
    with pytest.raises(bridge.NotFiniteError, match=told):
        bridge.generate(broken, tokens, max_new_tokens=12, stop=("XYZ",))


@pytest.mark.fault("A1")
def test_a_text_that_has_ended_does_not_mind():
    logits = jnp.array([[0.0, 1.0], [jnp.nan, 0.0], [jnp.nan, 0.0]])
    state = generation._State(
        jnp.zeros((3, 2), jnp.int32), (), jnp.ones((3, 2), bool), jnp.zeros((3, 1), jnp.int32),
        jnp.array([False, False, True]), jnp.int32(0),
    )  # fmt: skip
    for greedily in (True, False):
        choice = generation._Choice(jax.random.key(0), jnp.float32(1e-3), jnp.zeros(0, jnp.int32))
        found = generation._choose(state, logits, choice, greedily, (2, ()))
        assert found.tokens[:, 0].tolist() == [1, generation._LOST, generation.ENDED]
        assert found.done.tolist() == [False, True, True]


class Words:
    """Letters as tokens: of what is decoded, the letters again."""

    size, holes, ends = 61, (), ()

    def __call__(self, text):
        return [ord(letter) - ord("a") for letter in text]

    def prefix(self):
        return ()

    def decode(self, ids):
        return "".join(chr(ord("a") + token) for token in ids)


def test_texts_lists_and_arrays_are_continued_alike(monkeypatch):
    found = dataclasses.replace(checkpoint("llama3"), directory=None)
    object.__setattr__(found, "tokenizer", Words())
    rows = [[1, 2, 3, 4, 5], [7, 8]]
    alone = [bridge.generate(found, np.array([row]), max_new_tokens=4, ends=())[0] for row in rows]
    both = bridge.generate(found, rows, max_new_tokens=4, ends=())
    np.testing.assert_array_equal(both, alone)
    texts = bridge.generate(found, ["bcdef", "hi"], max_new_tokens=4, ends=())
    assert texts == [Words().decode(row) for row in alone]
    assert bridge.generate(found, "hi", max_new_tokens=4, ends=()) == texts[1:]
    assert bridge.generate(found, ["hi"], max_new_tokens=4, ends=[int(alone[1][2])])[0] == (
        Words().decode([t for t in alone[1][:2] if t != alone[1][2]])
    )


@pytest.mark.parametrize(
    ("prompts", "said"),
    [([1, 2], "a flat list of ids"), ([], "no prompts"), (np.array([1, 2]), "expected .batch")],
)
def test_what_is_no_prompt_is_told(prompts, said):
    with pytest.raises(ValueError, match=said):
        bridge.generate(checkpoint("llama3"), prompts, max_new_tokens=1)


def test_a_chat_is_set_by_the_models_own_template(tmp_path):
    from truncated_weights.bridge.formats import chat

    source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    source += "{% if add_generation_prompt %}<assistant>{% endif %}"
    told = {"chat_template": source, "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(told))
    text = chat.render(tmp_path, [{"role": "user", "content": "Hi"}])
    assert text == "<user>Hi</s><assistant>"
    # A file of its own goes first; what reaches out of the sandbox, or gives up, is one line.
    for bad in ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ raise_exception('no') }}"):
        (tmp_path / "chat_template.jinja").write_text(bad)
        with pytest.raises(bridge.CheckpointError, match="the chat template fails"):
            chat.render(tmp_path, [{"role": "user", "content": "Hi"}])
    with pytest.raises(bridge.CheckpointError, match="no chat template"):
        chat.render(tmp_path / "none", [])


def test_a_checkpoint_is_told_in_a_line_without_its_weights():
    told = repr(checkpoint("llama3"))
    assert told.startswith("Checkpoint(llama, 2 layers, d_model 32, ")
    assert len(told) < 200


@pytest.mark.parametrize("token", [10**6, -1, "begin"])
def test_a_template_whose_file_names_no_token_has_none(token, tmp_path, monkeypatch):
    from truncated_weights.bridge import gguf
    from truncated_weights.bridge.formats import chat

    said = {"tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.bos_token_id": token}
    contents = gguf.container.Contents({**said, "tokenizer.chat_template": "x"}, {}, {})
    monkeypatch.setattr(gguf, "read", lambda path: contents)
    assert chat.template(tmp_path / "m.gguf") == ("x", {})
