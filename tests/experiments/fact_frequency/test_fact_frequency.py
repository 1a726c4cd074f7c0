"""Facts by frequency beside the memory: on a tiny model, and on facts that obey the memory."""

import dataclasses
import json

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from tests.experiments.fact_frequency.mini_run import write_run
from truncated_weights import bridge
from truncated_weights.bridge import encoding, scoring, surgery
from truncated_weights.experiments.fact_frequency import compared, facts, predicted, tables
from truncated_weights.experiments.fact_frequency.fitted import fit_all
from truncated_weights.experiments.fact_frequency.measure import STUDY
from truncated_weights.experiments.fact_frequency.plan import prepare
from truncated_weights.experiments.fact_frequency.settings import FactFrequency
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.directory import RunDirectory, open_run
from truncated_weights.experiments.run.program import Place, UserError
from truncated_weights.training import records as naming
from truncated_weights.truncation import editing

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
    study.run(STUDY, config, Place("fact_frequency", str(out)))
    return out


def test_before_and_after_against_the_edited_weights(config, finished):
    measured = RunDirectory(finished).read_records().measured.sel(run="a", step=64)
    line = json.loads((finished / "metrics.jsonl").read_text().splitlines()[0])
    folder = f"{config.runs[0]}/checkpoints/step64"
    checkpoint = bridge.load(folder)
    asked = encoding.encode_examples(
        facts.read(config.runs[0]).examples, checkpoint.tokenizer,
        num_tokens=checkpoint.config.vocab_size,
    )  # fmt: skip
    assert measured.chosen == line["cut"]
    cut = editing.apply(checkpoint.params, line["cut"], surgery.matrices(checkpoint.config))
    for label, params in (("before", checkpoint.params), ("after", cut)):
        expected = scoring.evaluate(params, checkpoint.config, asked)
        for name in ("p_answer", "p_the", "loss"):
            found = measured[name].sel(model=label)
            np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-6)


def test_what_is_written(config, finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["a/shared/shared"] in config.shared
    assert summary["a/64/measured/cut"] in (
        "1.fc_out@0.5",
        "1.fc_out@0",
        "0.fc_out@0.5",
        "0.fc_out@0",
    )
    records = RunDirectory(finished).read_records()
    measured, said = (facts.tested(records[b]).p_answer for b in ("measured", "predicted"))
    before = facts.tested(records.measured).p_the.sel(step=128, model="before")
    assert summary["all/128/measured/whole_p_the"] == pytest.approx(float(before.mean()))
    gains = [
        (values.sel(model=cut) - values.sel(model="before")).sel(step=128).mean("run")
        for values, cut in ((measured, "after"), (said.sel(answers="own"), "top"))
    ]
    rho = summary["all/128/own/top/p_answer/rank_correlation"]
    assert rho == pytest.approx(stats.spearmanr(*gains).statistic)
    for name in ("by_frequency", "window"):
        assert (finished / "figures" / f"{name}.png").stat().st_size > 10_000
        (finished / "figures" / f"{name}.png").unlink()
    study.redraw(STUDY, str(finished))
    assert (finished / "figures" / "window.png").exists()


def test_facts_that_obey_the_memory_give_it_back(config, finished, tmp_path):
    """r and clock are found, and the gains agree in rank."""
    plan = prepare(config)
    times = predicted.clocks(config.longest)
    cuts = (predicted.Whole(), predicted.Row(0.35))
    said = predicted.predict(plan.facts, "shared", 0.3, times[[20, 33]], cuts)
    obeys = {
        naming.name(score, "fact", step=step, model=model): values[row]
        for model, cut in zip(("before", "after"), cuts, strict=True)
        for score, values in said[cut].items()
        for row, step in enumerate(plan.steps)
    }
    measured = plan.facts.labelled(obeys).assign_coords(step=list(plan.steps))
    measured = measured.expand_dims(run=list(plan.names))
    directory = open_run(Place("fact_frequency", str(tmp_path / "run")), config)
    records = fit_all(plan, directory, measured)
    assert plan.names == ("a", "b")
    fits = records.fits.sel(answers="shared")
    assert (fits.shared == 0.3).all()
    np.testing.assert_allclose(fits.clock.sel(step=128), times[33])
    assert (fits.misfit < 1e-9).all()
    np.testing.assert_allclose(fits.matched_share, 0.35)
    chosen = xr.DataArray([["x", "y"]] * 2, dims=("run", "step"))
    records = records.with_block("measured", measured.assign(chosen=chosen))
    rows, correlations = tables.compare(plan, records)
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
            prepare(dataclasses.replace(config, **change))
