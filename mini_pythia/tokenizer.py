"""The byte-level BPE tokenizer, trained on the corpus it will read."""

import itertools
from collections.abc import Iterator

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from truncated_weights.mini_pythia.corpus import END_OF_TEXT_ID, Corpus
from truncated_weights.mini_pythia.language.arithmetic import PRODUCT_OPERANDS, SUM_OPERANDS
from truncated_weights.mini_pythia.language.names import GIFTS, NAMES
from truncated_weights.mini_pythia.language.people import LANGUAGES, OCCUPATIONS
from truncated_weights.mini_pythia.language.places import CITIES, COUNTRIES

END_OF_TEXT = "<|endoftext|>"
_LEXICON_REPEATS = 200


def single_token_words(corpus: Corpus) -> tuple[str, ...]:
    """Words that are one token each, with the space before them.

    They are all the answers and distractors (so that probabilities of answers are
    probabilities of tokens), and the cities, gifts and numbers of the prompts.
    """
    largest = max(2 * SUM_OPERANDS[-1], PRODUCT_OPERANDS[-1] ** 2)
    numbers = range(PRODUCT_OPERANDS[0], largest + 1)
    words = (*NAMES, *COUNTRIES, *CITIES, *LANGUAGES, *OCCUPATIONS, *GIFTS)
    return tuple(f" {word}" for word in (*words, *map(str, numbers)))


def _training_texts(corpus: Corpus, num_documents: int) -> Iterator[str]:
    for document in itertools.islice(corpus.documents(seed=-1), num_documents):
        yield document.text
    # Rare names would be left in pieces by their frequency alone.
    for word in single_token_words(corpus):
        yield word * _LEXICON_REPEATS


def train_tokenizer(
    corpus: Corpus, *, vocab_size: int = 1536, num_documents: int = 20_000
) -> Tokenizer:
    """Train a byte-level BPE tokenizer on a corpus of its own seed.

    End-of-text is token 0, as in Pythia. No token is added to a text, at either end. The
    vocabulary has at most `vocab_size` ids, the 256 bytes and end-of-text included. Raises
    ValueError where it is so small that an answer is left in several tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_training_texts(corpus, num_documents), trainer)
    assert tokenizer.token_to_id(END_OF_TEXT) == END_OF_TEXT_ID
    broken = [word for word in single_token_words(corpus) if len(tokenizer.encode(word).ids) != 1]
    if broken:
        raise ValueError(
            f"vocab_size {vocab_size} leaves {len(broken)} answers in pieces, {broken[0]!r} first"
        )
    return tokenizer
