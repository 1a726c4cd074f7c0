"""Sums over every sequence of a tiny noisy recall chain, written without matrices."""

import itertools

import numpy as np


def sequences(unigram, bigram, *, trigger, alpha, length, noise_row=None):
    """Yield (ybar, tokens, probability given ybar) for every possible sequence."""
    n = len(unigram)
    after_noise = unigram if noise_row is None else noise_row

    def step(before, after, ybar):
        if before == trigger:
            return alpha * (after == n) + (1 - alpha) * (after == ybar)
        if after == n:
            return 0.0
        return after_noise[after] if before == n else bigram[before][after]

    for ybar in [k for k in range(n) if k != trigger]:
        for free in itertools.product(range(n + 1), repeat=length - 1):
            weight = unigram[free[0]] if free[0] < n else 0.0
            for before, after in itertools.pairwise(free):
                weight *= step(before, after, ybar)
            if weight > 0:
                yield ybar, (*free, trigger), weight


def features(tokens, num_tokens):
    """x_1, ..., x_T of one sequence, [T, 2 num_tokens]."""
    table = np.zeros((len(tokens), 2 * num_tokens))
    for t, token in enumerate(tokens):
        table[t, token] = 1.0
        if t:
            table[t, num_tokens + tokens[t - 1]] = 1.0
    return table


def random_language(n, seed):
    generator = np.random.default_rng(seed)
    return generator.dirichlet(np.ones(n)), generator.dirichlet(np.ones(n), size=n)
