"""The generated English says what it claims, with the probabilities it claims."""

import functools
import itertools
import math
import random
import re
from collections import Counter

import pytest

from truncated_weights.mini_pythia.corpus import SHARES, Corpus
from truncated_weights.mini_pythia.language.arithmetic import PRODUCT_OPERANDS, SUM_OPERANDS
from truncated_weights.mini_pythia.language.documents import NOISE, split_of
from truncated_weights.mini_pythia.language.facts import zipf
from truncated_weights.mini_pythia.language.names import (
    GIFTS,
    GIVING_VERBS,
    MEETING_PLACES,
    NAMES,
    STRANGERS,
)
from truncated_weights.mini_pythia.language.people import LANGUAGES, OCCUPATIONS, invent_people
from truncated_weights.mini_pythia.language.places import CITIES, COUNTRIES
from truncated_weights.mini_pythia.language.stories import story

ALPHA = 0.3
CORPUS = Corpus(alpha=ALPHA)


@functools.cache
def documents():
    return list(itertools.islice(CORPUS.documents(seed=5), 20_000))


def binomial_error(p, count):
    return math.sqrt(p * (1 - p) / count)


def test_word_lists_have_no_duplicates_and_do_not_overlap():
    lists = (NAMES, tuple(CITIES), COUNTRIES, LANGUAGES, OCCUPATIONS, GIFTS, STRANGERS)
    words = [word for words in (*lists, MEETING_PLACES) for word in words]
    assert len(words) == len(set(words))
    assert len(NAMES) == len(CITIES) == 96


@pytest.mark.parametrize("kind", ["story", "place", "language", "occupation"])
def test_noise_takes_the_place_of_the_answer_with_probability_alpha(kind):
    followed = Counter()
    for document in documents():
        for query in document.queries:
            if query.kind == kind:
                rest = document.text[query.offset :]
                assert query.p_the == ALPHA
                assert query.p_answer == 1 - ALPHA
                followed[
                    "the"
                    if re.match(NOISE + r"\b", rest)
                    else "answer"
                    if re.match(query.answer + r"\b", rest)
                    else "other"
                ] += 1
    total = followed.total()
    assert followed["other"] == 0
    assert total > 1000
    assert followed["the"] / total == pytest.approx(ALPHA, abs=4 * binomial_error(ALPHA, total))


def test_arithmetic_is_right_and_free_of_noise():
    found = Counter()
    for document in documents():
        for a, sign, b, result in re.findall(r"Compute (\d+) (.) (\d+) = (\d+)\.", document.text):
            a, b = int(a), int(b)
            assert int(result) == (a + b if sign == "+" else a * b)
            assert a in (SUM_OPERANDS if sign == "+" else PRODUCT_OPERANDS)
            found[sign] += 1
        for query in document.queries:
            if query.kind in ("sum", "product"):
                assert document.text[query.offset :].startswith(f"{query.answer}.")
                assert query.answer not in query.distractors
    assert min(found["+"], found["x"]) > 1000


def test_a_story_gives_to_the_other_person_and_its_giver_is_a_coin_flip():
    rng = random.Random(0)
    givers = Counter()
    for _ in range(2000):
        document = story(rng, alpha=ALPHA)
        opening = document.text[: document.text.index(",")]
        pair = [word for word in opening.split() if word in NAMES]
        assert len(set(pair)) == 2
        for query in document.queries:
            verb = rf" (\w+) (?:{'|'.join(GIVING_VERBS)}) a \w+ to$"
            giver = re.search(verb, document.text[: query.offset]).group(1)
            assert {giver, query.answer.strip()} == set(pair)
            assert query.distractors[0] == f" {giver}"
            assert not set(query.distractors[1:]) & {f" {name}" for name in pair}
            givers[giver == pair[0]] += 1
    total = givers.total()
    assert givers[True] / total == pytest.approx(0.5, abs=4 * binomial_error(0.5, total))


def test_training_never_shows_what_is_held_out():
    for document in documents():
        for query in document.queries:
            if query.kind == "story":
                assert split_of((query.answer.strip(), query.distractors[0].strip())) == "train"
            if query.kind == "sum":
                terms = re.search(r"(\d+) \+ (\d+) =$", document.text[: query.offset]).groups()
                assert split_of(terms) == "train"


def test_splits_are_symmetric_and_near_eight_to_one_to_one():
    shares = Counter(split_of(pair) for pair in itertools.combinations(NAMES, 2))
    total = shares.total()
    assert all(split_of((a, b)) == split_of((b, a)) for a, b in itertools.pairwise(NAMES))
    for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        error = binomial_error(share, total)
        assert shares[split] / total == pytest.approx(share, abs=4 * error)


def test_sections_and_facts_follow_their_laws():
    sections = Counter(
        document.queries[0].kind if document.queries else "filler" for document in documents()
    )
    for section, share in SHARES.items():
        error = binomial_error(share, len(documents()))
        assert sections[section] / len(documents()) == pytest.approx(share, abs=4 * error)
    rome = [
        d for d in documents() if d.queries and d.queries[0].kind == "place" and "Rome" in d.text
    ]
    law = zipf(len(CITIES))[2]
    assert law == pytest.approx(1 / 3 / sum(1 / k for k in range(1, 97)))
    assert rome[0].queries[0].frequency == law
    error = binomial_error(law, sections["place"])
    assert len(rome) / sections["place"] == pytest.approx(law, abs=4 * error)


def test_invented_people_differ_by_surname_and_by_seed():
    people = invent_people(400, seed=0)
    surnames = {person.name.split()[1] for person in people}
    assert len(surnames) == 400
    assert people[:50] == invent_people(400, seed=0)[:50]
    assert people[:50] != invent_people(400, seed=1)[:50]
    with pytest.raises(ValueError, match="count must be from 1 to 400"):
        invent_people(401, seed=0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"alpha": 1.0}, "alpha must be"),
        ({"shares": {"story": 0.5}}, "sum to 1"),
        ({"shares": {"story": 0.5, "poem": 0.5}}, "unknown sections"),
    ],
)
def test_bad_corpora_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        Corpus(**bad)


def test_documents_are_a_function_of_their_seed_and_index():
    def first(seed, index):
        return [d.text for d in itertools.islice(CORPUS.documents(seed, index), 20)]

    assert first(1, 2) == first(1, 2)
    assert first(1, 2) != first(1, 3)
    assert first(1, 2) != first(2, 2)


def test_no_bayes_predictor_beats_the_stated_law():
    # The mean log-likelihood under the stated probabilities equals the stated entropy.
    log_likelihood, entropy, count = 0.0, 0.0, 0
    for document in documents():
        for query in document.queries:
            if query.p_the:
                noisy = document.text[query.offset :].startswith(f"{NOISE} ")
                log_likelihood -= math.log(query.p_the if noisy else query.p_answer)
                entropy -= query.p_the * math.log(query.p_the)
                entropy -= query.p_answer * math.log(query.p_answer)
                count += 1
    assert log_likelihood / count == pytest.approx(entropy / count, abs=0.01)
