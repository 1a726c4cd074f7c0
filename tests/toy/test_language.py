import collections
import itertools
import os

import numpy as np
import pytest
from scipy import stats

from truncated_weights.toy import language


def test_zipf_law_is_the_power_of_the_rank():
    words = language.zipf(50, exponent=1.3)
    weights = [rank**-1.3 for rank in range(1, 51)]
    np.testing.assert_allclose(words.unigram, np.array(weights) / sum(weights), rtol=1e-14)
    assert words.most_frequent(3) == (0, 1, 2)
    assert words.rarest(2) == (49, 48)


def test_dirichlet_entries_follow_their_beta_law():
    tokens, concentration = 400, 300.0
    words = language.zipf(tokens, exponent=0.5, concentration=concentration, seed=3)
    np.testing.assert_allclose(words.bigram.sum(axis=1), 1, atol=1e-12)
    p = []
    for token in range(0, tokens, 40):
        mean = words.unigram[token]
        entries = words.bigram[:, token]
        # Var of a Dirichlet entry is m (1 - m) / (concentration + 1); rows are independent.
        error = np.sqrt(mean * (1 - mean) / (concentration + 1) / tokens)
        assert abs(entries.mean() - mean) < 4.5 * error
        beta = stats.beta(concentration * mean, concentration * (1 - mean))
        p.append(stats.kstest(entries, beta.cdf).pvalue)
    assert min(p) > 1e-3, p


def test_large_concentration_gives_rows_equal_to_the_unigram_law():
    words = language.zipf(10, concentration=1e10)
    np.testing.assert_allclose(words.bigram, np.tile(words.unigram, (10, 1)), atol=1e-4)


def test_tiny_concentration_still_gives_probability_laws():
    words = language.zipf(64, exponent=3.0, concentration=1e-3)
    assert np.all(np.isfinite(words.bigram))
    np.testing.assert_allclose(words.bigram.sum(axis=1), 1, atol=1e-9)


def test_seeds_and_uniform():
    one, same, other = (language.zipf(6, seed=s).bigram for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    flat = language.uniform(5)
    assert np.all(flat.unigram == 0.2)
    assert np.all(flat.bigram == 0.2)


def test_counted_text_agrees_with_counting_by_hand():
    text = "to be, or not to be: that is the question.\nüß to"
    words = language.counted(text)
    symbols = sorted(set(text))
    assert words.symbols == tuple(symbols)
    single, pairs = (
        collections.Counter(text),
        collections.Counter(itertools.pairwise(text)),
    )
    for i, a in enumerate(symbols):
        assert words.unigram[i] == pytest.approx(single[a] / len(text))
        followers = sum(count for (x, _), count in pairs.items() if x == a)
        for j, b in enumerate(symbols):
            assert words.bigram[i, j] == pytest.approx(pairs[a, b] / followers)
    assert words.symbols[words.most_frequent(1)[0]] == " "


def test_a_symbol_only_at_the_end_is_followed_by_the_unigram_law():
    words = language.counted("aababz")
    assert words.symbols == ("a", "b", "z")
    np.testing.assert_allclose(words.bigram[2], [3 / 6, 2 / 6, 1 / 6])
    np.testing.assert_allclose(words.bigram[1], [1 / 2, 0, 1 / 2])


def test_read_counts_a_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("été\r\nété", encoding="utf-8", newline="")
    words = language.read(path)
    assert words.symbols == ("\n", "t", "é")
    np.testing.assert_allclose(words.unigram, [1 / 7, 2 / 7, 4 / 7])


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"aaaa", "1 different"), (b"", "0 different"), (b"ab\xff\xfe", "not UTF-8")],
)
def test_a_file_that_is_no_language(tmp_path, content, message):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        language.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.fault("C2")
def test_a_text_of_many_symbols_is_told_by_what_it_would_take(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(map(chr, range(0x4E00, 0x4E00 + 20_000))), encoding="utf-8")
    with pytest.raises(ValueError, match=r"20,000 different symbols, .* would take 8\.9 GB"):
        language.read(path)


@pytest.mark.fault("C1")
def test_a_pipe_and_a_device_are_no_texts(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match="cannot be read: not a regular file"):
            language.read(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        language.read(tmp_path / "absent")
    with pytest.raises(ValueError, match="cannot be read"):
        language.read(tmp_path)


def test_laws_that_cannot_be():
    with pytest.raises(ValueError, match="at least two symbols"):
        language.uniform(1)
    with pytest.raises(ValueError, match="at least two symbols"):
        language.zipf(0)
    for concentration in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="concentration"):
            language.zipf(4, concentration=concentration)
    with pytest.raises(ValueError, match="unigram"):
        language.zipf(4, exponent=float("nan"))
    half = np.full(2, 0.5)
    with pytest.raises(ValueError, match="bigram has a row"):
        language.Language(half, np.array([[0.5, 0.4], [0.5, 0.5]]))
    with pytest.raises(ValueError, match="unigram has a row"):
        language.Language(np.array([1.5, -0.5]), np.full((2, 2), 0.5))


def test_shakespeare_comes_with_the_package_as_counts():
    """65 symbols, 1,115,394 of them; a law, and the text's own first facts."""
    found = language.read("shakespeare")
    assert (len(found.symbols), found.symbols[:3]) == (65, ("\n", " ", "!"))
    np.testing.assert_allclose(found.bigram.sum(axis=1), 1)
    assert found.unigram.sum() == pytest.approx(1)
    # A space is the commonest, 169,892 times; after q comes u.
    assert round(found.unigram[1] * 1_115_394) == 169_892
    q, u = (found.symbols.index(letter) for letter in "qu")
    assert found.bigram[q].argmax() == u
    assert found.bigram[q, u] > 0.99
    assert language.file_of("shakespeare") == ""
    assert language.file_of("input.txt") == "input.txt"
