import jax
import numpy as np
import pytest

from truncated_weights import bridge
from truncated_weights.bridge import module, packing, surgery
from truncated_weights.experiments.benchmark_search import measure as benchmark_search
from truncated_weights.experiments.benchmark_search import prompts, shapes
from truncated_weights.experiments.benchmark_search.settings import PYTHIA, SHAPES, BenchmarkSearch
from truncated_weights.experiments.run.directory import open_run
from truncated_weights.experiments.run.program import Place
from truncated_weights.training.records import costs_of
from truncated_weights.truncation.notation import candidates as every_candidate


def timed(config, shape, candidates, path):
    plan = benchmark_search.Plan(config, shape, candidates)
    directory = open_run(Place("benchmark_search", str(path / "run")), config)
    return costs_of(benchmark_search.measure(plan, directory))


@pytest.mark.parametrize(("baseline", "kind"), [("batched", "random"), ("one_by_one", "facts")])
def test_both_sides_agree_and_are_timed(baseline, kind, tmp_path):
    """On a shape so small that only the agreement means anything."""
    config = BenchmarkSearch(
        shape="pythia-14m",
        baseline=baseline,
        baseline_prompts=2,
        prompts=kind,
        num_prompts=3,
        length=5,
        matrices=("fc_in",),
        rhos=("0.5", "0"),
        baseline_candidates=2,
    )
    shape = bridge.Config(vocab_size=40, num_layers=2, d_model=16, num_heads=2, d_ff=32)
    candidates = every_candidate([(0, "fc_in"), (1, "fc_in")], config.rhos)
    found = timed(config, shape, candidates, tmp_path)
    assert found["candidates"] == 4
    assert found["baseline_candidates"] == 2
    assert found["baseline_prompts"] == (3 if baseline == "batched" else 2)
    assert found["peak_memory_gb"] > 0.05
    assert found["difference/loss"] < 1e-4
    assert found["difference/rank"] == 0
    assert found["ratio"] > 0
    assert found["seconds_per_candidate/full"] > 0


def test_what_is_timed_is_whole_batches_of_the_search_of_all(monkeypatch, tmp_path):
    shape = bridge.Config(vocab_size=32000, num_layers=2, d_model=16, num_heads=2, d_ff=32)
    # Batches of some sixty tokens, as if no more fitted the caches.
    monkeypatch.setattr(surgery, "_CACHED", 60 * 4 * shape.d_ff)
    monkeypatch.setattr(surgery, "_TOKENS", 1)
    config = BenchmarkSearch(
        baseline="one_by_one", baseline_prompts=5, prompts="paraphrases", num_prompts=300,
        timed_prompts=20, matrices=("fc_in",), rhos=("0.5",),
    )  # fmt: skip
    found = prompts.encoded(config.prompts, config.num_prompts, 0, shape.vocab_size, config.seed)
    rows = benchmark_search.timed_rows(shape, found, config, 2**30)
    size = surgery.examples(shape, found, memory=2**30).size(len(found))
    assert 1 < size < 10
    assert 20 <= len(rows) < 20 + size
    assert len(rows) % size == 0
    assert len(set(rows)) == len(rows)
    arranged = packing.arrange(found.batch, size, share=True)
    whole = {frozenset(arranged[start : start + size]) for start in range(0, 300 - size, size)}
    assert {frozenset(batch) for batch in rows.reshape(-1, size)} <= whole
    summary = timed(config, shape, every_candidate([(0, "fc_in")], config.rhos), tmp_path)
    assert summary["timed_prompts"] == len(rows)
    assert summary["baseline_prompts"] == 5
    assert summary["difference/rank"] == 0
    assert benchmark_search.timed_rows(shape, found, BenchmarkSearch(), 2**30).tolist() == [
        *range(300)
    ]


def test_facts_have_the_lengths_and_the_beginnings_they_are_said_to_have():
    found = prompts.encoded("facts", 2000, 0, 32000, 0).batch
    lengths = found.mask[:, 0].sum(axis=1)
    assert lengths.max() <= prompts.LONGEST["facts"]
    assert 8.0 < lengths.mean() < 9.6
    shares = []
    for count in (64, 512, 2000):
        tokens, mask = (leaf[:count, 0] for leaf in (found.tokens, found.mask))
        shares.append(len(packing.tree(tokens, mask, share=True)[1]) / mask.sum())
    np.testing.assert_allclose(shares, (0.92, 0.85, 0.80), atol=0.03)


def test_two_thirds_are_paraphrases_as_long_and_as_alike_as_they_are_said_to_be():
    found = prompts.encoded("paraphrases", 3000, 0, 32000, 0).batch
    tokens, mask = found.tokens[:, 0], found.mask[:, 0]
    lengths = mask.sum(axis=1)
    assert lengths.max() <= prompts.LONGEST["paraphrases"]
    assert 8.0 < lengths[::3].mean() < 9.6
    behind = np.arange(len(lengths)) % 3 > 0
    # 276 of CounterFact's own have 19.0 +- 5.9 tokens, and 6 of them more than 32.
    np.testing.assert_allclose(lengths[behind].mean(), 19.0, atol=0.4)
    np.testing.assert_allclose(lengths[behind].std(), 5.9, atol=0.5)
    assert 0.012 < (lengths[behind] > 32).mean() < 0.032

    def share(rows):
        return len(packing.tree(tokens[rows], mask[rows], share=True)[1]) / mask[rows].sum()

    # So many at a time, on the average of all there are.
    for count, said in ((64, 0.984), (128, 0.977), (256, 0.969)):
        parts = np.split(np.flatnonzero(behind), range(count, behind.sum(), count))
        shares = [share(part) for part in parts if len(part) == count]
        np.testing.assert_allclose(np.mean(shares), said, atol=0.004)


def test_every_shape_has_a_name_and_the_size_that_it_says():
    assert bridge.SIZES == PYTHIA
    for name in SHAPES:
        shape = shapes.named(name)
        count = sum(leaf.size for leaf in jax.tree.leaves(module.shapes(shape)))
        unit = {"m": 1e6, "b": 1e9}[name[-1]]
        assert 0.95 < count / (float(name.split("-")[1][:-1]) * unit) < 1.05
    assert shapes.named("llama-70m").groups < shapes.named("llama-70m").num_heads
