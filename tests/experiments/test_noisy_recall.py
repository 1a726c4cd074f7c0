"""The contract of the noisy-recall program, on a model of 8 dimensions and 5 tokens."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from tests.faults.house import until
from truncated_weights import toy
from truncated_weights.experiments.noisy_recall import figures as figures_recall
from truncated_weights.experiments.run.drawing.panel import Figure, render
from truncated_weights.experiments.run.inputs import recall_setup
from truncated_weights.training import records
from truncated_weights.training.records import Records, labelled

STEPS = 1500
TINY = [
    f"--steps={STEPS}", "--length=12", "--num_tokens=5", "--d_model=8", "--batch_size=4",
    "--feed_forward=linear", "--interventions=0.fc_in@0", "--rhos=0.5", "--devices=1",
    "--eval_batch=8", "--final_batch=16", "--num_seeds=2",
    # Checkpoints, records and spectra at steps that do not fit each other.
    "--eval_every=500", "--checkpoint_every=400", "--spectrum_every=350",
]  # fmt: skip


def start(house, out, *arguments):
    return house.start("experiments.noisy_recall", [*TINY, f"--out={out}", *arguments])


def read(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing disturbed, and what it printed.

    A process of its own from the interpreter on, and all that it runs it compiles: the runs that
    must equal it to the bit share compilations among themselves, never with this one.
    """
    out = tmp_path_factory.mktemp("finished") / "run"
    running = subprocess.run(
        [sys.executable, "-m", "experiments.noisy_recall", *TINY, f"--out={out}"],
        capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"},
    )  # fmt: skip
    assert running.returncode == 0, running.stderr
    return out, running.stdout, running.stderr


def test_a_run_leaves_every_file_and_says_where(finished):
    out, printed, _ = finished
    files = {str(p.relative_to(out)) for p in out.rglob("*") if "checkpoints" not in p.parts}
    figures = {
        f"figures/{n}.{s}" for n in ("recall", "mechanisms", "spectra") for s in ("png", "pdf")
    }
    expected = {"config.json", "metrics.jsonl", "records.nc", "summary.json", "figures"}
    expected |= {"manifest.json", ".lock"}
    assert files == expected | figures
    for line in ("full", "0.fc_in@0", "attention (noisy sequences)", f"figures: {out}/figures"):
        assert f"\n{line}" in printed
    config = read(out / "config.json")
    assert config["flags"]["steps"] == STEPS
    assert config["flags"]["interventions"] == ["0.fc_in@0"]
    # What was not given is resolved too.
    assert config["flags"]["learning_rate"] == 0.03


def test_progress_is_plain_lines_where_there_is_no_terminal(finished):
    *_, err = finished
    # A machine that is busy elsewhere hears more: a line every eight seconds.
    # Step 0, which is told only then, has no rate.
    lines = [line for line in err.splitlines() if not line.endswith(" s so far")]
    lines = [line for line in lines if not line.startswith("step 0/")]
    assert len(lines) >= 3
    assert lines[-1].startswith(f"step {STEPS}/{STEPS}  loss ")
    rate = re.compile(r"step \d.* (step/s|s/step)(, .+ left)?")
    assert all(rate.fullmatch(line) for line in lines), lines


def test_summary_has_the_agreed_keys_and_agrees_with_the_arrays(finished):
    out, *_ = finished
    summary = read(out / "summary.json")
    metrics = ("p_correct", "p_noise", "accuracy", "loss")
    matrices = ("k_proj", "v_proj", "out_proj", "fc_in", "ov")
    models = ("full", "0.fc_in@0", *(f"0.{m}@0.5" for m in matrices))
    wanted = {f"{s}/{m}/{x}" for s in ("clean", "noisy") for m in models for x in metrics}
    wanted |= {f"noisy/full/attention_{x}" for x in ("correct", "noise")}
    assert wanted <= set(summary)
    assert all(np.isfinite(value) for value in summary.values())
    found = {records.spelled(k): v.values for k, v in records.cells(toy.open(out).final, "seed")}
    for name in wanted:
        values = found[name]
        assert values.shape == (2,)
        assert summary[name] == pytest.approx(values.mean(), rel=1e-6)
        # The standard error of two is half their distance.
        assert summary[f"{name}/sem"] == pytest.approx(abs(values[0] - values[1]) / 2, rel=1e-4)
        if not name.endswith("loss"):
            assert np.all((values >= 0) & (values <= 1))
    assert all(summary[f"{s}/dropped"] == 0 for s in ("clean", "noisy"))


def test_metrics_are_flat_lines_in_order_of_steps(finished):
    out, *_ = finished
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines]
    doubling = {0, *(2**k for k in range(11))}
    assert steps == sorted(doubling | {400, 800, 1200, 500, 1000, 350, 700, 1050, 1400, STEPS})
    assert all(isinstance(v, int | float) for line in lines for v in line.values())
    by_step = dict(zip(steps, lines, strict=True))
    assert "clean/0.fc_in@0/p_correct" in by_step[500]
    assert set(by_step[400]) == {"step", "train/loss"}
    assert set(by_step[350]) - {"step", "train/loss"} == {
        f"spectrum/0.{m}/{x}"
        for m in ("k_proj", "v_proj", "out_proj", "fc_in", "ov")
        for x in ("norm", "soft_rank")
    }
    assert by_step[STEPS]["train/loss"] < by_step[1]["train/loss"]


def reached(running, out, step):
    """Whether the run stored this step before it ended."""
    stored = out / "checkpoints" / str(step)
    return until(lambda: stored.exists() or running.wait(0) is not None) and stored.exists()


@pytest.mark.thorough
def test_a_killed_run_continues_and_ends_the_same_to_the_bit(finished, house, tmp_path):
    out = tmp_path / "run"
    chance = random.Random(0)
    # Between two checkpoints, with a record in between that no checkpoint shares.
    running = start(house, out)
    assert reached(running, out, 512), running.said
    time.sleep(0.02 * chance.random())
    assert running.send(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert not (out / "summary.json").exists()

    # While it starts or continues, whatever it is doing then; but before it has come so far that
    # too little is left to be stopped in once more.
    running = start(house, out)
    enough = time.monotonic() + 1 + 2 * chance.random()
    assert until(lambda: time.monotonic() > enough or (out / "checkpoints/800").exists())
    running.send(signal.SIGKILL)
    running.wait()

    # Then asked to stop, once it has come further than before and is at work itself: the run just
    # killed may have come that far already.
    running = start(house, out)
    assert reached(running, out, 1024), running.said
    assert until(lambda: "step " in running.said or running.wait(0) is not None)
    running.send(signal.SIGTERM)
    assert running.wait() == 130
    ending = "error: interrupted; the same command continues from the last checkpoint\n"
    assert running.said.endswith(ending)
    assert "Traceback" not in running.said

    running = start(house, out)
    assert running.wait() == 0, running.said
    whole, *_ = finished
    assert (out / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()
    assert (out / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    got, expected = (toy.open(path).records for path in (out, whole))
    assert list(got) == list(expected)
    for block in expected:
        assert got[block].identical(expected[block]), block


def test_a_run_that_diverges_names_the_step_and_the_last_checkpoint(house, tmp_path):
    running = start(house, tmp_path / "run", "--learning_rate=1e25")
    assert running.wait() == 1
    last = running.said.splitlines()[-1]
    assert last.startswith("error: the loss of seed ")
    assert "is not finite at step " in last
    step = int(last.split("at step ")[1].split(";")[0])
    kept = sorted(int(p.name) for p in (tmp_path / "run/checkpoints").iterdir())
    assert last.endswith(f"the last good checkpoint is {kept[-1]} in checkpoints/")
    assert kept[-1] < step <= 4
    assert "Traceback" not in running.said


def test_a_bad_command_is_one_line_before_any_work(finished, drive, tmp_path):
    whole, *_ = finished
    (tmp_path / "one").write_text("aaaa")
    (tmp_path / "bytes").write_bytes(b"ab\xff")
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    for name in ("config.json", "records.nc"):
        shutil.copy(whole / name, unfinished)
    cases = {
        "alpha=1.5: it must lie in [0, 1]": ["--alpha=1.5"],
        "alpha=nan: it must be finite": ["--alpha=nan"],
        "no_such_flag": ["--no_such_flag=1"],
        "steps=0": ["--steps=0"],
        "spectrum_every=-1": ["--spectrum_every=-1"],
        "checkpoint_every=-1": ["--checkpoint_every=-1"],
        "for 'square': it must be one of none, linear, mlp": ["--feed_forward=square"],
        "RHO 2 is outside [0, 1]": ["--interventions=0.fc_in@2"],
        "the model has layers 0-0": ["--interventions=7.fc_in@0"],
        "unknown matrix 'fc'": ["--interventions=0.fc@0"],
        "RHO 'x' is not a number": ["--rhos=x"],
        "triggers (99,)": ["--triggers=99"],
        "'zzz', which is no token": ["--triggers=zzz"],
        "no token is left": ["--num_triggers=5"],
        "share a token": ["--existing_noise", "--triggers=4"],
        "batch_size=9 does not divide over 8 devices": ["--batch_size=9", "--devices=8"],
        "devices=9, but this machine has 8": ["--devices=9"],
        "learning_rate is 0": ["--learning_rate=0"],
        "momentum is 1": ["--momentum=1"],
        "it must be below the 1500 steps": ["--warmup=1500"],
        "frozen names '3.k_proj'": ["--frozen=3.k_proj"],
        "trained names 'all'": ["--trained=all"],
        "1 different symbols": [f"--text={tmp_path}/one"],
        "not UTF-8 text": [f"--text={tmp_path}/bytes"],
        "No such file": [f"--text={tmp_path}/absent"],
        "Is a directory": [f"--text={tmp_path}"],
        "cannot be written": [f"--out={tmp_path}/one/run"],
        "holds a finished run; add --overwrite": [f"--out={whole}"],
        "--alpha=0.5, not 0.25": [f"--out={unfinished}", "--alpha=0.25"],
        "cannot be read": [f"--out={unfinished}"],
    }
    # A checkpoint that is no checkpoint.
    (unfinished / "checkpoints" / "8" / "default").mkdir(parents=True)
    (unfinished / "checkpoints" / "8" / "_CHECKPOINT_METADATA").write_text("{}")
    out = tmp_path / "out"
    lines = ([*TINY, f"--out={out}", *given] for given in cases.values())
    results = drive("noisy_recall", *lines)
    for message, result in zip(cases, results, strict=True):
        assert result["code"] == 2, (message, result)
        # That the devices have changed is noted before what is wrong.
        told = [line for line in result["err"].splitlines() if not line.startswith("note: ")]
        assert [line.startswith("error: ") for line in told] == [True], (message, result)
        assert message in result["err"]
        assert result["out"] == ""
    assert not out.exists()


def test_figures_are_redrawn_from_the_arrays_alone(finished, drive, tmp_path):
    whole, *_ = finished
    out = tmp_path / "run"
    out.mkdir()
    for name in ("config.json", "records.nc"):
        shutil.copy(whole / name, out)
    again = ["--redraw", f"--out={out}"]
    (refused,) = drive("noisy_recall", again)
    told = f"error: --out={out} is not finished: it has no summary.json yet\n"
    assert refused == {"code": 2, "out": "", "err": told}

    shutil.copy(whole / "summary.json", out)
    (redrawn,) = drive("noisy_recall", again)
    assert redrawn["code"] == 0, redrawn["err"]
    assert redrawn["out"].split() == [str(p) for p in figures(out)]
    for path in figures(whole):
        assert (out / "figures" / path.name).read_bytes() == path.read_bytes()


def figures(out):
    order = ("mechanisms", "spectra", "recall")
    return [out / "figures" / f"{name}.png" for name in order]


@pytest.mark.slow
def test_the_default_setting_shows_the_phenomenon(tmp_path):
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "experiments.noisy_recall", f"--out={out}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = read(out / "summary.json")
    assert 0.40 <= summary["clean/full/p_noise"] <= 0.60
    assert summary["clean/1.mlp@0/p_correct"] >= 0.90
    assert summary["clean/1.mlp@0/p_noise"] <= 0.03
    assert summary["clean/1.fc_in@0.1/p_correct"] >= 0.85
    assert summary["clean/1.fc_out@0.02/p_noise"] >= 0.7
    assert summary["noisy/full/attention_correct"] >= 0.85
    assert summary["noisy/full/attention_noise"] <= 0.10
    assert summary["clean/dropped"] == summary["noisy/dropped"] == 0
    # The noise is learned before recall: half of its final value comes much earlier.
    assert 4 * summary["learning/noise_half_step"] < summary["learning/recall_half_step"]


def test_a_warm_start_begins_with_the_last_weights_and_says_which(finished, drive, tmp_path):
    before, *_ = finished
    tiny = [flag for flag in TINY if not flag.startswith(("--steps", "--eval_every"))]
    common = [*tiny, "--steps=2", f"--start_from={before}"]
    done, refused = drive(
        "noisy_recall",
        [*common, f"--out={tmp_path}/after"],
        [*common, "--d_model=6", f"--out={tmp_path}/other"],
    )
    assert done["code"] == 0, done["err"]
    first, second = (toy.open(path).models for path in (before, tmp_path / "after"))
    at_end, at_start = first.isel(step=-1, drop=True), second.isel(step=0, drop=True)
    for variable in ("loss", "p_noise", "confusion"):
        xr.testing.assert_allclose(at_start[variable], at_end[variable], rtol=1e-6)
    loss = second.loss.sel(set="clean", model="full")
    assert not np.allclose(loss.isel(step=0), loss.isel(step=-1))
    digests = read(tmp_path / "after" / "config.json")["inputs"]
    assert digests == {"start_from": recall_setup.digest(before, (STEPS,))}
    assert refused["code"] == 2
    assert refused["err"].endswith("its learned weights have other names or shapes\n")


def bigram_records(*, heldout: bool) -> Records:
    axes = {"step": np.array([0, 1, 10, 100]), "seed": [0, 1, 2]}
    rng = np.random.default_rng(0)

    def block(*names):
        return labelled({found: rng.random((4, 3)) for found in names}, axes)

    variants = ("loss", "without_feed_forwards", "without_last_attention", "entropy")
    parts = ("clean", "heldout") if heldout else ("clean",)
    models = ("full", "1.mlp@0", "0.mlp@0")
    return Records(
        {
            "bigrams": block(*map(records.name, variants)),
            "mechanisms": block(
                *(records.name("bigram_kl", feed_forward=part) for part in ("0", "1", "uniform")),
                records.name("bigram_kl_even", feed_forward="1"),
            ),
            "models": block(
                *(records.name("p_correct", set=s, model=model) for s in parts for model in models)
            ),
        }
    )


def drawn(found):
    return render(Figure("bigrams", list(figures_recall.bigrams(found)))).axes


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_each_part_of_the_bigrams_has_its_line_and_what_is_unseen_its_panel():
    loss, divergence = drawn(bigram_records(heldout=False))
    assert labels(loss) == ["full", "without last attention", "without feed-forwards"]
    assert labels(divergence) == ["feed-forward 0", "feed-forward 1"]
    *_, unseen = drawn(bigram_records(heldout=True))
    assert labels(unseen) == [
        f"{model}, outputs {told}"
        for model in ("full", "1.mlp@0")
        for told in ("trained", "never trained")
    ]


def test_lines_of_the_bigrams_are_means_over_seeds_at_their_steps():
    given = bigram_records(heldout=True)
    loss, *_ = drawn(given)
    by_label = dict(zip(labels(loss), loss.get_lines(), strict=False))
    line = by_label["without feed-forwards"]
    wanted = given.bigrams.without_feed_forwards.mean("seed")[1:]
    np.testing.assert_allclose(line.get_ydata(), wanted)
    np.testing.assert_array_equal(line.get_xdata(), [1, 10, 100])
