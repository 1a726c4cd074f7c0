"""Facts by frequency beside the memory: on a tiny model, and on facts that obey the memory."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

import bridge
from bridge import encoding, scoring, surgery
from experiments.fact_frequency import compared, experiment, facts, predicted
from experiments.fact_frequency.settings import FactFrequency
from experiments.run.program import Place, UserError
from tests.experiments.fact_frequency.mini_run import write_run
from truncation import editing

pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return write_run(folder / "a", 0), write_run(folder / "b", 1)


@pytest.fixture(scope="module")
def config(runs):
    return FactFrequency(
        runs=runs, matrices=("fc_out",), rhos=("0.5", "0"), shared=(0.0, 0.3), longest=100.0,
        bins=10, bootstrap=100,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "run"
    experiment.main(config, Place("fact_frequency", str(out)))
    return out


def test_before_and_after_against_the_edited_weights(config, finished):
    arrays = dict(np.load(finished / "trajectory.npz"))
    line = json.loads((finished / "metrics.jsonl").read_text().splitlines()[0])
    folder = f"{config.runs[0]}/checkpoints/step64"
    checkpoint = bridge.load(folder)
    asked = encoding.encode_examples(
        facts.read(config.runs[0]).examples, checkpoint.tokenizer,
        num_tokens=checkpoint.config.vocab_size,
    )  # fmt: skip
    cut = editing.apply(checkpoint.params, line["cut"], surgery.matrices(checkpoint.config))
    for label, params in (("before", checkpoint.params), ("after", cut)):
        expected = scoring.evaluate(params, checkpoint.config, asked)
        for name in ("p_answer", "p_the", "loss"):
            found = arrays[f"measured/{label}/{name}"][0, 0]
            np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-6)


def test_what_is_written(config, finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["a/shared/shared"] in config.shared
    arrays = dict(np.load(finished / "trajectory.npz"))
    test = arrays["test"]
    mean = arrays["measured/before/p_the"][:, 1][:, test].mean()
    assert summary["all/128/measured/whole_p_the"] == pytest.approx(mean)
    gains = [
        (arrays[f"{side}/p_answer"] - arrays[f"{base}/p_answer"])[:, 1][:, test].mean(axis=0)
        for side, base in (("measured/after", "measured/before"),
                           ("predicted/own/top", "predicted/own/none"))
    ]  # fmt: skip
    rho = summary["all/128/own/top/p_answer/rank_correlation"]
    assert rho == pytest.approx(stats.spearmanr(*gains).statistic)
    for name in ("by_frequency", "window"):
        assert (finished / "figures" / f"{name}.png").stat().st_size > 10_000
        (finished / "figures" / f"{name}.png").unlink()
    experiment.redraw(str(finished))
    assert (finished / "figures" / "window.png").exists()


def test_facts_that_obey_the_memory_give_it_back(config, finished, tmp_path):
    """r and clock are found, and the gains agree in rank."""
    plan = experiment.make_plan(config)
    times = predicted.clocks(config.longest)
    cuts = (predicted.Whole(), predicted.Row(0.35))
    said = predicted.predict(plan.facts, "shared", 0.3, times[[20, 33]], cuts)
    measured = {
        f"{label}/{name}": np.stack([values, values])
        for label, cut in zip(("before", "after"), cuts, strict=True)
        for name, values in said[cut].items()
    }
    directory = experiment.open_run(Place("fact_frequency", str(tmp_path / "run")), config)
    fits, arrays = experiment.fit_all(plan, directory, measured)
    assert plan.names == ("a", "b")
    for run in plan.names:
        assert fits[f"{run}/shared/shared"] == 0.3
        assert fits[f"{run}/128/shared/clock"] == pytest.approx(times[33])
        assert fits[f"{run}/128/shared/misfit"] < 1e-9
        assert fits[f"{run}/64/shared/matched_share"] == pytest.approx(0.35)
    arrays |= {f"measured/{name}": values for name, values in measured.items()}
    arrays["steps"] = np.array(plan.steps)
    rows, correlations = experiment.compare(plan, arrays, [["x", "y"]] * 2)
    chosen = [c for c in correlations if (c["answers"], c["cut"]) == ("shared", "matched")]
    assert all(c["rho"] == pytest.approx(1.0) for c in chosen)
    said_rows = {r["who"]: r for r in rows if r["run"] == "all" and r["step"] == 128}
    assert said_rows["measured"]["cut_border"] == (said_rows["shared, matched"]["cut_border"])


def test_a_kind_has_its_share_of_the_clock(config):
    """Twice the share is twice the time: rows of one kind depend on nothing else."""
    known = facts.read(config.runs[0])
    kinds = list(known.kinds.values())
    assert sum(kind.share for kind in kinds) == pytest.approx(1.0)
    whole = predicted.Whole()
    later = predicted.predict(known, "shared", 0.3, np.array([7.0]), (whole,))
    doubled = dataclasses.replace(known, frequency=known.frequency.copy())
    doubled.frequency[kinds[0].where] *= 2
    share = next(iter(doubled.kinds.values())).share
    moved = predicted.predict(
        doubled, "shared", 0.3, np.array([7.0 * kinds[0].share / share]), (whole,)
    )
    for name in ("p_answer", "p_the"):
        np.testing.assert_allclose(
            moved[whole][name][:, kinds[0].where],
            later[whole][name][:, kinds[0].where], rtol=1e-6,
        )  # fmt: skip


def test_rank_correlation_and_its_interval():
    rng = np.random.default_rng(0)
    one, noise = rng.normal(size=(2, 200))
    drawn = compared.resamples(200, 400, 1)
    found = compared.spearman(one, one + noise, drawn)
    assert found.value == pytest.approx(stats.spearmanr(one, one + noise).statistic)
    assert found.low < found.value < found.high
    # Of normal values of correlation .71 the error is about (1 - .71^2) / sqrt(200).
    assert 0.08 < found.high - found.low < 0.25
    assert np.isnan(compared.spearman(np.ones(200), noise, drawn).value)


def test_the_border_against_every_threshold():
    rng = np.random.default_rng(3)
    frequency, known = rng.uniform(size=40), rng.uniform(size=40).round()
    frequency[:5], known[:5] = 2.0 + np.arange(5), 1.0
    found = compared.border(frequency, known, compared.resamples(40, 50, 0))

    def wrong(threshold):
        return np.sum((frequency > threshold) != (known > 0.5))

    best = min(wrong(x) for x in [0.0, np.inf, *(frequency * (1 + 1e-9))])
    assert wrong(found.value) == best
    assert found.low <= found.value <= found.high
    drawn = compared.resamples(40, 50, 0)
    assert compared.border(frequency, np.ones(40), drawn).value == 0.0
    assert compared.border(frequency, np.zeros(40), drawn) == (np.inf, np.inf, np.inf)


def test_what_cannot_be_compared_is_told(config, runs, tmp_path):
    other = write_run(tmp_path / "other", 0, alpha=0.3)
    for change, told in (
        ({"runs": (str(tmp_path),)}, "is missing; expected a run of the small Pythia"),
        ({"runs": (runs[0], other)}, "asks for other facts"),
        ({"steps": (3,)}, "has no step3"),
        ({"matrices": ("nothing",)}, "--matrices names 'nothing'"),
        ({"rhos": ("2",)}, "2"),
    ):
        with pytest.raises(UserError, match=told):
            experiment.make_plan(dataclasses.replace(config, **change))
