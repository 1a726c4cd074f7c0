"""The benchmark of prefixes itself: both sides in turns, on the same candidates."""

import dataclasses
import functools
import resource
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from truncated_weights import bridge
from truncated_weights.bridge import encoding, module, packing, scoring, surgery
from truncated_weights.bridge import network as model
from truncated_weights.experiments.benchmark_search import prompts, shapes
from truncated_weights.experiments.benchmark_search.settings import BenchmarkSearch
from truncated_weights.experiments.run import stop
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.progress import Progress, stage
from truncated_weights.experiments.run.study import Memory, Study
from truncated_weights.training.records import Records, costs_of, of_costs
from truncated_weights.truncation import editing, notation
from truncated_weights.truncation.notation import candidates as every_candidate
from truncated_weights.truncation.search.scorer import Scorer


@dataclasses.dataclass(frozen=True)
class Plan:
    """The model's shape and the cuts, checked."""

    config: BenchmarkSearch
    shape: bridge.Config
    candidates: list[notation.Intervention]


def prepare(config: BenchmarkSearch) -> Plan:
    """Shape and cuts; ValueError where they do not go together."""
    shape = shapes.named(config.shape)
    layers = config.layers or range(shape.num_layers)
    keys = [(layer, name) for layer in layers for name in config.matrices]
    candidates = every_candidate(keys, config.rhos)
    for candidate in candidates:
        editing.resolve(candidate, surgery.matrices(shape))
    return Plan(config, shape, candidates)


def needs(config: BenchmarkSearch) -> Memory:
    """The weights twice, and the logits of what is run at once."""
    shape = shapes.named(config.shape)
    weights = sum(leaf.size for leaf in jax.tree.leaves(module.shapes(shape)))
    timed = config.timed_prompts or config.num_prompts
    together = timed if config.baseline == "batched" else 1
    longest = prompts.LONGEST.get(config.prompts, config.length)
    logits = together * longest * shape.vocab_size
    return Memory(4.0 * (2 * weights + logits), "--shape, --num_prompts or --length")


def tell(plan: Plan, records: Records, summary: Mapping[str, float]) -> None:
    """Print the ratio and what both sides took."""
    config = plan.config
    timed, whole = round(summary["timed_prompts"]), config.num_prompts
    print(
        f"{summary['candidates']:.0f} candidates on {timed} prompts"
        f"{f' of {whole}' if timed < whole else ''}, of {summary['tokens_per_prompt']:.1f} tokens"
    )
    how = "one by one" if config.baseline == "one_by_one" else "together"
    print(f"full forward  {summary['seconds_per_candidate/full']:.3f} s per candidate, {how}")
    print(f"prefixes kept {summary['seconds_per_candidate/prefixes']:.3f} s per candidate")
    print(
        f"ratio {summary['ratio']:.2f} compiled, "
        f"{summary['ratio_with_compilation']:.2f} with both compilations"
    )
    print(
        f"largest difference: loss {summary['difference/loss']:.2g} nats, "
        f"p(the) {summary['difference/p_the']:.2g}; "
        f"{summary['peak_memory_gb']:.1f} GB of memory at most"
    )


def measure(plan: Plan, directory: RunDirectory) -> Records:
    """Time both on the same candidates and compare their scores."""
    config, shape, candidates = plan.config, plan.shape, plan.candidates
    stage("making random weights")
    params = bridge.init_params(shape, key=jax.random.key(config.seed))
    params = jax.tree.map(lambda leaf: leaf.astype(config.dtype), params)
    checkpoint = bridge.Checkpoint(shape, params)
    encoded = prompts.encoded(
        config.prompts, config.num_prompts, config.length, shape.vocab_size, config.seed
    )
    memory = int(config.memory_gb * 2**30)
    indices = timed_rows(shape, encoded, config, memory)
    keys = list(dict.fromkeys(map(_key, candidates)))

    def prepared() -> Scorer:
        stage("decomposing matrices")
        found = surgery.scorer(checkpoint, encoded, memory=memory, prefix_memory=memory)
        jax.block_until_ready(found.decompositions.of(keys))
        return found

    scorer = prepared()
    stage("compiling")
    began = time.perf_counter()
    scorer.evaluate(candidates, indices)
    compiling = time.perf_counter() - began
    stage("compiling")
    began = time.perf_counter()
    baseline = one_by_one if config.baseline == "one_by_one" else full_forward
    # One by one: those at even distances among the others.
    count = len(indices)
    if config.baseline == "one_by_one":
        count = min(config.baseline_prompts or count, count)
    places = np.arange(count) * len(indices) // count
    asked = encoding.select(encoded, indices[places])
    # One by one, every length is a shape of its own.
    baseline(scorer.decompositions.made(candidates[0]), shape, asked)
    full_compiling = time.perf_counter() - began

    # A new scorer has kept no prefix yet; what was compiled is shared. The two sides take
    # turns, so that a machine that is busy at times is busy for both.
    scorer = prepared()
    step = -(-len(candidates) // (config.baseline_candidates or len(candidates)))
    progress = Progress(len(keys), label="matrix")
    seconds, full_seconds, timed = 0.0, 0.0, 0
    differences: dict[str, float] = {}
    for done, key in enumerate(keys, start=1):
        stop.check()
        members = [i for i, c in enumerate(candidates) if _key(c) == key]
        began = time.perf_counter()
        scores = scorer.evaluate([candidates[i] for i in members], indices)
        seconds += time.perf_counter() - began
        for place, index in enumerate(members):
            if index % step:
                continue
            stop.check()
            began = time.perf_counter()
            edited = jax.block_until_ready(scorer.decompositions.made(candidates[index]))
            edited_at = time.perf_counter()
            expected = baseline(edited, shape, asked)
            # Weights are edited once, however many prompts there are.
            each = (time.perf_counter() - edited_at) / count
            full_seconds += edited_at - began + each * len(indices)
            timed += 1
            for name, value in expected.items():
                found = float(np.abs(scores[name][place, places] - value).max())
                differences[name] = max(differences.get(name, 0.0), found)
        progress.update(done)
    progress.close()

    ours, full = seconds / len(candidates), full_seconds / timed
    costs = {
        "ratio": full / ours,
        "ratio_with_compilation": (full * len(candidates) + full_compiling) / compiling,
        "seconds_per_candidate/full": full,
        "seconds_per_candidate/prefixes": ours,
        "candidates": len(candidates),
        "baseline_candidates": timed,
        "baseline_prompts": count,
        "timed_prompts": len(indices),
        "tokens_per_prompt": float(encoded.batch.mask[indices].sum() / len(indices)),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        **{f"difference/{name}": value for name, value in differences.items()},
    }
    directory.append_metrics(costs)
    return of_costs(costs)


def timed_rows(
    shape: bridge.Config, encoded: encoding.Encoded, config: BenchmarkSearch, memory: int
) -> np.ndarray:
    """Indices of the prompts to time: whole batches, at even distances among those of all.

    What a batch costs depends on how many prompts there are in all, because of more prompts more
    begin alike.
    """
    if not 0 < config.timed_prompts < len(encoded):
        return np.arange(len(encoded))
    found = surgery.examples(shape, encoded, memory=memory)
    size = found.size(len(encoded))
    order = packing.arrange(encoded.batch, size, share=packing.shares(shape))
    whole = len(encoded) // size
    chosen = min(-(-config.timed_prompts // size), whole)
    batches = np.arange(chosen) * whole // chosen
    return order[(batches[:, None] * size + np.arange(size)).reshape(-1)]


def _key(candidate: notation.Intervention) -> notation.Key:
    return int(candidate.cuts[0].layer), candidate.cuts[0].matrix


def full_forward(
    edited: Any, shape: bridge.Config, encoded: encoding.Encoded
) -> dict[str, np.ndarray]:
    """All logits of all prompts by edited parameters, and scores."""
    batch = encoded.batch
    logits = _all_logits(edited, shape, encoding.flat(batch.tokens), encoding.flat(batch.mask))
    return jax.device_get(_score(logits, batch, encoded.vocabulary))


def one_by_one(
    edited: Any, shape: bridge.Config, encoded: encoding.Encoded
) -> dict[str, np.ndarray]:
    """Every prompt by itself, by edited parameters: all its logits, and its scores.

    As LASER's script for CounterFact has it, log p of the whole prompt is computed and the last
    position's vocabulary is sorted. Its randomised SVD for each candidate is left out.
    """
    found = []
    for index in range(len(encoded)):
        batch = encoding.take(encoded.batch, np.array([index]))
        # Without padding, as a loop over single prompts has it.
        real = int(batch.mask.sum())
        batch = batch._replace(tokens=batch.tokens[..., :real], mask=batch.mask[..., :real])
        logits = _all_logits(edited, shape, encoding.flat(batch.tokens), encoding.flat(batch.mask))
        scores = _score(logits, batch, encoded.vocabulary)
        _, last = jax.device_get(_log_probabilities(logits, encoding.flat(batch.tokens)))
        np.argsort(last)
        found.append(jax.device_get(scores))
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


@functools.partial(jax.jit, static_argnames="shape")
def _all_logits(params: Any, shape: bridge.Config, tokens: Any, mask: Any) -> Any:
    return model.forward(params, shape, tokens, mask)


@jax.jit
def _log_probabilities(logits: Any, tokens: Any) -> Any:
    """Of all of a single prompt, and of every token that could follow."""
    found = jax.nn.log_softmax(logits[0], axis=-1)
    return jnp.sum(jnp.take_along_axis(found[:-1], tokens[0, 1:, None], axis=1)), found[-1]


# Compiled apart from the logits, so that none of those can be left out as unused.
@functools.partial(jax.jit, static_argnames="vocabulary")
def _score(logits: Any, batch: encoding.EncodedBatch, vocabulary: encoding.Vocabulary) -> Any:
    at = jnp.asarray(encoding.flat(batch.at))
    chosen = model.gather(logits, at)
    return scoring.scores_of_logits(chosen.reshape(*batch.at.shape, -1), batch, vocabulary)


STUDY = Study(
    name="benchmark_search",
    settings=BenchmarkSearch,
    prepare=prepare,
    measure=measure,
    summarise=lambda plan, records: costs_of(records),
    tell=tell,
    memory=needs,
)
