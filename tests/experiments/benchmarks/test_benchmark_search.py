import bridge
from experiments.benchmark_search import experiment as benchmark_search
from experiments.benchmark_search.settings import SIZES, BenchmarkSearch
from truncation.notation import candidates as every_candidate


def test_both_sides_agree_and_are_timed():
    """On a shape so small that only the agreement means anything."""
    config = BenchmarkSearch(
        size="14m",
        num_prompts=3,
        length=5,
        matrices=("fc_in",),
        rhos=("0.5", "0"),
        baseline_candidates=2,
    )
    shape = bridge.Config(vocab_size=40, num_layers=2, d_model=16, num_heads=2, d_ff=32)
    candidates = every_candidate([(0, "fc_in"), (1, "fc_in")], config.rhos)
    found = benchmark_search.run(config, shape, candidates)
    assert found["candidates"] == 4
    assert found["baseline_candidates"] == 2
    assert found["difference/loss"] < 1e-4
    assert found["difference/rank"] == 0
    assert found["ratio"] > 0
    assert found["seconds_per_candidate/full"] > 0


def test_the_sizes_are_those_of_the_bridge():
    assert bridge.SIZES == SIZES
