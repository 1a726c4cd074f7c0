"""Generated answers of a tiny model: as one token at a time, whatever the batch."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from tests.experiments import model_checkpoint
from truncated_weights import bridge
from truncated_weights.bridge import answers, encoding
from truncated_weights.bridge.tasks import Example, Marking, TaskError

pytest.importorskip("tokenizers")
NEW = 6
EXAMPLES = [
    Example("The hat of Anna is", " red"),
    Example("The", " hat"),
    Example("The house of Peter is white, and the coat of Lucy is", " green"),
    Example("The coat of Mark", " is"),
    Example("The hat of Anna", " is"),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return bridge.load(model_checkpoint.write_checkpoint(tmp_path_factory.mktemp("a") / "model"))


@pytest.fixture(scope="module")
def by_hand(checkpoint):
    """The most probable token again and again, the whole text run anew each time."""
    words, texts = checkpoint.tokenizer, []
    for example in EXAMPLES:
        tokens = words(example.prompt)
        start = len(tokens)
        for _ in range(NEW):
            # Zeros follow, which what comes before cannot see: one shape to compile.
            padded = np.array([(tokens + [0] * 64)[:64]])
            law = np.asarray(bridge.logits(checkpoint, padded))[0, len(tokens) - 1]
            tokens = [*tokens, int(np.argmax(law[: words.size]))]
        texts.append(words.decode(tokens[start:]))
    return texts


@pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.thorough), 2, 16])
def test_every_answer_in_any_batch(checkpoint, by_hand, batch_size):
    found = answers.stream(checkpoint, EXAMPLES, Marking("contains", NEW), batch_size=batch_size)
    assert sorted(found) == list(enumerate(by_hand))


def test_answers_end_at_the_first_stop(checkpoint, by_hand):
    middle = by_hand[0][3:5]
    marking = Marking("contains", NEW, stop=(middle,))
    found = dict(answers.stream(checkpoint, EXAMPLES[:2], marking))
    assert found[0] == by_hand[0][: by_hand[0].index(middle)]
    assert middle not in found[1]


@pytest.mark.fault("A5")
def test_answers_end_with_the_text(checkpoint, tmp_path, monkeypatch):
    """Neither the run-on nor the token that ends the text is read, whichever file names it."""
    made, marking = [], Marking("contains", NEW)
    real = answers.generate
    monkeypatch.setattr(answers, "generate", lambda *a, **k: made.append(real(*a, **k)) or made[-1])
    free, words = dict(answers.stream(checkpoint, EXAMPLES, marking)), checkpoint.tokenizer
    longest = max(range(len(EXAMPLES)), key=lambda i: len(words(EXAMPLES[i].prompt)))
    ids = made[0][0].tolist()
    end = next(token for place, token in enumerate(ids) if place and token not in ids[:place])
    config = {"eos_token": {"content": words.library.id_to_token(end), "lstrip": False}}
    shutil.copyfile(checkpoint.directory / "tokenizer.json", tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    here = dataclasses.replace(checkpoint, directory=tmp_path)
    assert here.ends == here.tokenizer.ends == (end,)
    found = dict(answers.stream(here, EXAMPLES, marking))
    assert found[longest] == words.decode(ids[: ids.index(end)])
    assert len(found[longest]) < len(free[longest])
    kept, theirs = (answers.Marks(one, EXAMPLES, marking) for one in (here, checkpoint))
    assert kept.description != theirs.description


@pytest.mark.fault("A6")
def test_a_prompt_that_begins_with_the_prefix_does_not_get_it_twice(checkpoint):
    marking, prefix = Marking("contains", NEW), tuple(checkpoint.tokenizer("<|endoftext|>"))
    assert len(prefix) == 1
    carried = Example(f"<|endoftext|>{EXAMPLES[0].prompt}", " red")
    (once,) = answers.stream(checkpoint, [EXAMPLES[0]], marking, prefix=prefix)
    assert once == next(answers.stream(checkpoint, [carried], marking, prefix=prefix))
    rows = [
        encoding.encode_examples([e], checkpoint.tokenizer, num_tokens=384, prefix=prefix).batch
        for e in (EXAMPLES[0], carried)
    ]
    np.testing.assert_array_equal(rows[0].tokens, rows[1].tokens)
    np.testing.assert_array_equal(rows[0].targets, rows[1].targets)


def test_a_prefix_stands_before_every_prompt(checkpoint):
    marking = Marking("contains", NEW)
    prefix = tuple(checkpoint.tokenizer("The hat of Anna is red. "))
    (found,) = answers.stream(checkpoint, [EXAMPLES[1]], marking, prefix=prefix)
    together = Example("The hat of Anna is red. The", " hat")
    # These texts split into the same tokens apart and together.
    assert [*prefix, *checkpoint.tokenizer("The")] == checkpoint.tokenizer(together.prompt)
    assert found == next(answers.stream(checkpoint, [together], marking))


def test_what_does_not_fit_is_refused_before_anything_runs(checkpoint):
    long = Example("red " * 2045 + "is", " red")
    with pytest.raises(TaskError, match=r"1 of 2 prompts leave no room for 6 tokens in 2048"):
        next(answers.stream(checkpoint, [EXAMPLES[0], long], Marking("contains", NEW)))
