"""Tokens, packing and evaluation prompts."""

import functools
import itertools
import json
import random

import numpy as np
import pytest
from tokenizers import Tokenizer

from truncated_weights.mini_pythia.corpus import END_OF_TEXT_ID, Corpus, packed_block
from truncated_weights.mini_pythia.language.arithmetic import draw_operands
from truncated_weights.mini_pythia.language.documents import split_of
from truncated_weights.mini_pythia.prompts import TASKS, evaluation_sets, write_prompts
from truncated_weights.mini_pythia.tokenizer import END_OF_TEXT, single_token_words, train_tokenizer

CORPUS = Corpus()


@functools.cache
def tokenizer():
    return train_tokenizer(CORPUS, num_documents=3000)


@functools.cache
def asked():
    return {part: evaluation_sets(CORPUS, part=part, count=100) for part in ("validation", "test")}


def test_the_tokenizer_round_trips_every_sentence(tmp_path):
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    loaded = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = [d.text for d in itertools.islice(CORPUS.documents(seed=9), 3000)]
    for encoding, text in zip(loaded.encode_batch(texts), texts, strict=True):
        assert loaded.decode(encoding.ids) == text
        assert END_OF_TEXT_ID not in encoding.ids
    unseen = "Zoé paid 3 € — 你好!"
    assert loaded.decode(loaded.encode(unseen).ids) == unseen


def test_the_tokenizer_is_a_function_of_the_corpus():
    again = train_tokenizer(CORPUS, num_documents=3000)
    assert again.to_str() == tokenizer().to_str()
    assert tokenizer().token_to_id(END_OF_TEXT) == END_OF_TEXT_ID


def test_answers_are_single_tokens_in_every_context():
    assert len(set(single_token_words(CORPUS))) == len(single_token_words(CORPUS))
    for sets in asked().values():
        for prompt in itertools.chain.from_iterable(sets.values()):
            alone = tokenizer().encode(prompt["prompt"]).ids
            for word in (prompt["answer"], *prompt["distractors"], " the"):
                assert len(tokenizer().encode(word).ids) == 1, word
                together = tokenizer().encode(prompt["prompt"] + word).ids
                assert together == alone + tokenizer().encode(word).ids


def test_a_vocabulary_that_breaks_answers_is_refused():
    with pytest.raises(ValueError, match="answers in pieces"):
        train_tokenizer(CORPUS, vocab_size=600, num_documents=100)


def test_packing_concatenates_documents_and_starts_each_sequence_with_one():
    block = packed_block(CORPUS, tokenizer(), seed=3, index=7, num_sequences=20, length=64)
    assert block.shape == (20, 64)
    stream = CORPUS.documents(3, 7)
    # An independent packing: one document at a time, through the text alone.
    for row in block:
        ids = []
        while len(ids) < 64:
            ids += [*tokenizer().encode(next(stream).text).ids, END_OF_TEXT_ID]
        np.testing.assert_array_equal(row, ids[:64])


def test_blocks_are_functions_of_seed_and_index():
    def block(seed, index):
        return packed_block(
            CORPUS, tokenizer(), seed=seed, index=index, num_sequences=4, length=32
        ).tolist()

    assert block(0, 5) == block(0, 5)
    assert block(0, 5) != block(0, 6)
    assert block(0, 5) != block(1, 5)


def test_prompts_are_held_out_and_parts_share_no_fact():
    assert tuple(asked()["test"]) == TASKS
    for part, sets in asked().items():
        for prompt in sets["story"]:
            names = (prompt["answer"].strip(), prompt["distractors"][0].strip())
            assert split_of(names) == part
        for prompt in sets["sum"]:
            assert split_of([w for w in prompt["prompt"].split() if w.isdigit()]) == part
    for task in TASKS:
        prompts = [{p["prompt"] for p in asked()[part][task]} for part in asked()]
        assert all(prompts)
        assert not prompts[0] & prompts[1]


def test_facts_are_split_by_how_often_the_corpus_states_them():
    sets = asked()["test"]
    by_frequency = [
        [p["frequency"] for p in sets[f"facts_{third}"]] for third in ("frequent", "middle", "rare")
    ]
    assert min(by_frequency[0]) >= max(by_frequency[1])
    assert min(by_frequency[1]) >= max(by_frequency[2])
    both = [p["frequency"] for s in asked().values() for t in TASKS[1:4] for p in s[t]]
    # Both parts ask for every place once and for either the language or the occupation of
    # every person (one each): all facts together are all place, language and occupation
    # documents.
    shares = CORPUS.shares
    assert sum(both) == pytest.approx(
        shares["place"] + shares["language"] + shares["occupation"], rel=1e-9
    )


def test_written_prompts_are_plain_json_lines(tmp_path):
    write_prompts(asked()["test"], tmp_path / "test")
    for task in TASKS:
        lines = (tmp_path / "test" / f"{task}.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        assert rows == asked()["test"][task]
        for row in rows:
            assert row["p_answer"] + row["p_the"] + row["p_other"] == pytest.approx(1.0)


def test_products_draw_from_all_pairs_and_sums_only_from_theirs():
    rng = random.Random(0)
    assert len({draw_operands(rng, "product", "train") for _ in range(3000)}) == 121
    assert {split_of(draw_operands(rng, "sum", "test")) for _ in range(50)} == {"test"}
