"""What keeping prefixes saves: a search on Pythia's shape against one forward per candidate.

    python -m experiments.benchmark_pythia
    python -m experiments.benchmark_pythia --size=14m --baseline_candidates=12

Random weights of Pythia-70m's shape, 64 prompts of 16 random tokens, every layer's fc_in and
fc_out at 7 rho. The baseline edits the parameters and computes the logits of all positions for
each candidate; both sides share the decompositions, take turns and are timed once compiled.
Expect a ratio of 5 and losses equal within 1e-5 nats. About three minutes on two CPU cores,
most of it the baseline; ratios of one run can be compared, seconds of two cannot. Compiling
costs the same however many candidates and layers there are.
"""

import dataclasses
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import bridge
from bridge import encoding, scoring, surgery
from bridge import network as model
from bridge.tasks import Example
from experiments.run import program
from experiments.run.directory import open_run
from experiments.run.progress import Progress
from truncation import intervention
from truncation.notation import candidates as every_candidate
from truncation.search.scorer import Scorer


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """Every flag of this program."""

    size: str
    num_prompts: int
    length: int
    matrices: tuple[str, ...]
    rhos: tuple[str, ...]
    baseline_candidates: int
    memory_gb: float
    seed: int


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_enum("size", "70m", list(bridge.SIZES), "Whose shape the random weights have.")
    flags.DEFINE_integer("num_prompts", 64, "Prompts.", lower_bound=1)
    flags.DEFINE_integer("length", 16, "Tokens of each prompt.", lower_bound=1, upper_bound=2047)
    flags.DEFINE_list("matrices", ["fc_in", "fc_out"], "Matrices that are cut, in every layer.")
    flags.DEFINE_list("rhos", ["0.8", "0.6", "0.4", "0.2", "0.1", "0.05", "0"], "Fractions kept.")
    flags.DEFINE_integer("baseline_candidates", 0, "Time only so many, spread out.", lower_bound=0)
    flags.DEFINE_float("memory_gb", 1.0, "For activations, and for prefixes.", lower_bound=0.01)
    flags.DEFINE_integer("seed", 0, "Of weights and prompts.", lower_bound=0)
    program.define_output_flags("benchmark_pythia")


def main() -> None:
    """Flags in, run directory and ratio out."""
    config = program.config_from_flags(BenchmarkConfig)
    with program.user_errors():
        shape = bridge.config_for_size(config.size)
        keys = [(layer, name) for layer in range(shape.num_layers) for name in config.matrices]
        candidates = every_candidate(keys, config.rhos)
        for candidate in candidates:
            intervention.resolve(candidate, surgery.matrices(shape))
    directory = open_run(
        program.Place("benchmark_pythia", flags.FLAGS.out, flags.FLAGS.overwrite), config
    )
    summary = run(config, shape, candidates)
    directory.append_metrics(summary)
    directory.finish(summary)
    ratios = summary["ratio"], summary["ratio_with_compilation"]
    print(f"{len(candidates)} candidates on {config.num_prompts} prompts of {config.length} tokens")
    print(f"full forward  {summary['seconds_per_candidate/full']:.3f} s per candidate")
    print(f"prefixes kept {summary['seconds_per_candidate/prefixes']:.3f} s per candidate")
    print(f"ratio {ratios[0]:.2f} compiled, {ratios[1]:.2f} with both compilations")
    print(
        f"largest difference: loss {summary['difference/loss']:.2g} nats, "
        f"p(the) {summary['difference/p_the']:.2g}"
    )


def run(
    config: BenchmarkConfig, shape: bridge.Config, candidates: list[intervention.Intervention]
) -> dict[str, float]:
    """Time both on the same candidates and compare their scores."""
    params = bridge.init_params(shape, key=jax.random.key(config.seed))
    checkpoint = bridge.Checkpoint(shape, params)
    encoded = random_prompts(config, shape.vocab_size)
    indices = np.arange(len(encoded))
    memory = int(config.memory_gb * 2**30)
    keys = list(dict.fromkeys(map(_key, candidates)))

    def prepared() -> Scorer:
        found = surgery.scorer(checkpoint, encoded, memory=memory, prefix_memory=memory)
        jax.block_until_ready(found.decompositions.of(keys))
        return found

    scorer = prepared()
    began = time.perf_counter()
    scorer.evaluate(candidates, indices)
    compiling = time.perf_counter() - began
    began = time.perf_counter()
    full_forward(scorer, shape, encoded, candidates[0])
    full_compiling = time.perf_counter() - began

    # A new scorer has kept no prefix yet; what was compiled is shared. The two sides take
    # turns, so that a machine that is busy at times is busy for both.
    scorer = prepared()
    step = -(-len(candidates) // (config.baseline_candidates or len(candidates)))
    progress = Progress(len(keys), label="matrix")
    seconds, full_seconds, timed = 0.0, 0.0, 0
    differences: dict[str, float] = {}
    for count, key in enumerate(keys):
        members = [i for i, c in enumerate(candidates) if _key(c) == key]
        began = time.perf_counter()
        scores = scorer.evaluate([candidates[i] for i in members], indices)
        seconds += time.perf_counter() - began
        for place, index in enumerate(members):
            if index % step:
                continue
            began = time.perf_counter()
            expected = full_forward(scorer, shape, encoded, candidates[index])
            full_seconds += time.perf_counter() - began
            timed += 1
            for name, value in expected.items():
                found = float(np.abs(scores[name][place] - value).max())
                differences[name] = max(differences.get(name, 0.0), found)
        progress.update(count + 1)
    progress.close()

    ours, full = seconds / len(candidates), full_seconds / timed
    return {
        "ratio": full / ours,
        "ratio_with_compilation": (full * len(candidates) + full_compiling) / compiling,
        "seconds_per_candidate/full": full,
        "seconds_per_candidate/prefixes": ours,
        "candidates": len(candidates),
        "baseline_candidates": timed,
        **{f"difference/{name}": value for name, value in differences.items()},
    }


def _key(candidate: intervention.Intervention) -> intervention.Key:
    return int(candidate.cuts[0].layer), candidate.cuts[0].matrix


def random_prompts(config: BenchmarkConfig, vocab_size: int) -> encoding.Encoded:
    """Prompts of random tokens with a random answer and distractor each."""
    draws = np.random.default_rng(config.seed)
    examples = []
    for _ in range(config.num_prompts):
        *prompt, answer, distractor = draws.integers(1, vocab_size, config.length + 2).tolist()
        examples.append(Example(" ".join(map(str, prompt)), f" {answer}", (f" {distractor}",)))
    # Texts of numbers, whose tokens are those numbers.
    return encoding.encode_examples(
        examples, lambda text: [int(t) for t in text.split()], num_tokens=vocab_size, noise="7"
    )


def full_forward(
    scorer: Scorer,
    shape: bridge.Config,
    encoded: encoding.Encoded,
    candidate: intervention.Intervention,
) -> dict[str, np.ndarray]:
    """Edit the parameters, compute all logits of all prompts, and score."""
    batch = encoded.batch
    edited = scorer.decompositions.made(candidate)
    logits = _all_logits(edited, shape, scoring.flat(batch.tokens), scoring.flat(batch.mask))
    return jax.device_get(_score(logits, batch, encoded.vocabulary))


@functools.partial(jax.jit, static_argnames="shape")
def _all_logits(params: Any, shape: bridge.Config, tokens: Any, mask: Any) -> Any:
    return model.forward(params, shape, tokens, mask)


# Compiled apart from the logits, so that none of those can be left out as unused.
@functools.partial(jax.jit, static_argnames="vocabulary")
def _score(logits: Any, batch: encoding.Batch, vocabulary: encoding.Vocabulary) -> Any:
    at = jnp.asarray(scoring.flat(batch.at))
    chosen = model.gather(logits, at)
    return scoring.scores_of_logits(chosen.reshape(*batch.at.shape, -1), batch, vocabulary)


if __name__ == "__main__":
    define_flags()
    program.run_flags(main)
