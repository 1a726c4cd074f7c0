"""Seeds that were lost: every figure and summary is of the others, and says of how many.

Records are made here, seeds lost half way: NaN from there on, and what was recorded before is a
trap that no mean may step into.
"""

import json

import jax
import numpy as np
import pytest

from experiments.associative_memory import experiment as memory
from experiments.associative_memory.settings import Memory
from experiments.find_noise import experiment as find_noise
from experiments.linearised import experiment as linearised
from experiments.linearised.settings import Linearised
from experiments.noisy_recall import experiment as noisy_recall
from experiments.noisy_recall import figures as recall_figures
from experiments.plateau import experiment as plateau
from experiments.plateau import figures as plateau_figures
from experiments.plateau.settings import Plateau
from experiments.run import recall_setup, style
from experiments.sweep import experiment as sweep
from experiments.sweep import figures as sweep_figures
from experiments.sweep import rows as sweep_rows
from experiments.sweep.settings import SETTINGS as SWEEP
from experiments.truncate import figures as truncate_figures
from toy import memory as toy_memory
from toy.history import History
from toy.settings import NoisyRecall
from toy.setup import build
from training import seeds
from training.checkpoint import Store

SEEDS, RECORDS = 4, 6
STEPS = np.array([0, 1, 2, 4, 8, 16])
# Which seeds are lost: some, and all but one.
LOST = {"some": (0, 2), "all but one": (0, 1, 3)}
lost_seeds = pytest.mark.parametrize("gone", LOST.values(), ids=LOST)


def number(*shape):
    return np.random.default_rng(sum(shape)).uniform(0.1, 0.9, shape).astype(np.float32)


def spoilt(arrays, gone, *, final=True):
    """The same arrays with these seeds lost before the fourth record; first_bad says so."""
    first = np.where(np.isin(np.arange(SEEDS), gone), 3, -1)
    found = {seeds.FIRST_BAD: first}
    for name, values in arrays.items():
        values = values.copy()
        if name.startswith("final/") and final:
            values[list(gone)] = np.nan
        elif values.ndim > 1 and values.shape[:2] == (RECORDS, SEEDS):
            values[:3, list(gone)] = 77.0
            values[3:, list(gone)] = np.nan
        found[name] = values
    return found


def without(arrays, gone):
    """The same arrays of the other seeds alone, as a run of only these would have them."""
    kept = [seed for seed in range(SEEDS) if seed not in gone]
    return {
        name: values[kept]
        if name.startswith("final/")
        else values[:, kept]
        if values.ndim > 1 and values.shape[:2] == (RECORDS, SEEDS)
        else values
        for name, values in arrays.items()
    }


def require_drawn(figures, *, laid_out=False):
    """Every panel has finite limits and none of what lost seeds left; laid_out takes longer."""
    names = []
    for name, figure in figures:
        names.append(name)
        for axes in figure.axes:
            assert np.isfinite([*axes.get_xlim(), *axes.get_ylim()]).all(), name
            for line in axes.lines:
                assert not np.any(np.asarray(line.get_ydata()) == 77.0), name
        if laid_out:
            figure.draw_without_rendering()
    assert names


def require_of_others(summary, alone, gone):
    """The figures of the others, beside how many they are of how many."""
    assert (summary["seeds"], summary["seeds_lost"]) == (SEEDS - len(gone), len(gone))
    told = {k: v for k, v in summary.items() if k not in ("seeds", "seeds_lost")}
    assert told == {k: v for k, v in alone.items() if k not in ("seeds", "seeds_lost")}


def recall_arrays():
    curve, both = (RECORDS, SEEDS), ("clean", "noisy")
    metrics = ("p_correct", "p_noise", "attention_correct", "attention_noise",
               "attention_previous", "margin/feed_forward_0", "margin/attention_0")  # fmt: skip
    names = [f"models/{part}/{model}/{m}" for part in both for model in ("full", "1.mlp@0")
             for m in metrics]  # fmt: skip
    names += ["mechanisms/recall/copy", "mechanisms/feed_forward_margin/0",
              "mechanisms/bigram_kl/0", "mechanisms/bigram_kl/uniform", "bigrams/bigram/loss",
              "bigrams/bigram/entropy", "train/loss"]  # fmt: skip
    found = {name: number(*curve) for name in names}
    found |= {f"spectra/spectrum/1.fc_in/{name}": number(*curve, 3)
              for name in ("singular_values", "noise_share")}  # fmt: skip
    for group in ("models", "mechanisms", "bigrams", "train", "spectra"):
        found[f"{group}/steps"] = STEPS
    for rho in ("0", "0.1", "0.5", "1"):
        found |= {f"final/clean/1.fc_in@{rho}/{m}": number(SEEDS) for m in ("p_correct", "p_noise")}
    return found


@pytest.mark.fault("B3")
@lost_seeds
def test_noisy_recall(gone):
    arrays = recall_arrays()
    broken = spoilt(arrays, gone)
    require_drawn(recall_figures.draw(broken, 0.5), laid_out=len(gone) == 3)
    alone = noisy_recall.summarise(without(arrays, gone))
    require_of_others(noisy_recall.summarise(broken), alone, gone)


@pytest.mark.fault("B3")
def test_noisy_recall_on_the_brink():
    """Weights still finite and too large: what is derived of them is not, in some or all seeds."""
    arrays = recall_arrays()
    for name in ("singular_values", "noise_share"):
        arrays[f"spectra/spectrum/1.fc_in/{name}"][-1] = np.inf
        arrays[f"spectra/spectrum/1.fc_in/{name}"][-2, 1:] = np.nan
    arrays["models/clean/full/p_noise"][-1, 2] = np.nan
    arrays["bigrams/bigram/entropy"][-1] = np.inf
    arrays["models/clean/full/margin/attention_0"][-1] = 3e38
    require_drawn(recall_figures.draw(arrays, 0.5))
    noisy_recall.summarise(arrays)


@pytest.mark.fault("B3")
@lost_seeds
def test_associative_memory(gone):
    config = Memory(num_inputs=3, num_seeds=SEEDS, step_size=0.1, d_model=8)
    names = ("full/p_noise", "full/p_correct", "cut/p_noise", "logits/correct", "logits/other",
             "logits/noise")  # fmt: skip
    arrays = {f"memory/{name}": number(RECORDS, SEEDS) for name in names}
    arrays |= {f"memory/logits/{name}": number(RECORDS, SEEDS, 3)
               for name in ("singular_values", "noise_share")}  # fmt: skip
    arrays["memory/steps"] = STEPS
    broken = spoilt(arrays, gone)
    require_drawn(memory.figures.draw(config, ["cut"], broken))
    problem = toy_memory.Memory(3, config.alpha, d_model=8)
    alone = memory.summarise(config, problem, without(arrays, gone))
    require_of_others(memory.summarise(config, problem, broken), alone, gone)


@pytest.mark.fault("B3")
@lost_seeds
def test_truncate(gone):
    names = ("full", *(f"1.fc_in@{sign}{rho}" for sign in ("", "-") for rho in ("0.1", "0.5", "1")))
    arrays = {f"clean/{name}/{metric}": number(RECORDS, SEEDS)
              for name in names for metric in ("p_correct", "p_noise")}  # fmt: skip
    broken = spoilt(arrays | {"steps": STEPS}, gone)
    # A checkpoint knows who is lost by then: the records of all of them have a line for each.
    broken[seeds.FIRST_BAD] = np.where(STEPS[:, None] >= 3, broken[seeds.FIRST_BAD], -1)
    shown = ("curves", "along")
    figures = {name: getattr(truncate_figures, name) for name in shown}
    left = seeds.surviving(broken)
    require_drawn([("curves", figures["curves"](left, 0.5)), ("along", figures["along"](left))])
    assert left["clean/full/p_noise"].shape == (RECORDS, SEEDS - len(gone))
    assert np.isfinite(left["clean/full/p_noise"]).all()


@pytest.mark.fault("B3")
@pytest.mark.parametrize("gone", [*LOST.values(), (0, 1, 2, 3)], ids=[*LOST, "all of one run"])
def test_linearised(gone):
    """A seed lost in one variant is no seed of its comparison; one variant may lose all."""
    config = Linearised(widths=(16,), learning_rates=(0.2,), num_seeds=SEEDS, steps=16,
                        variants=("full", "linearised"))  # fmt: skip
    whole = {key: number(RECORDS, SEEDS) for key in ("p_noise", "p_correct")}
    name, arrays = "d16/rate0.2", {}
    for variant in config.variants:
        own = spoilt(whole, gone) if variant == "linearised" else whole
        arrays |= {f"{name}/{variant}/{key}": values for key, values in own.items()}
        arrays[f"{name}/{variant}/steps"] = STEPS
    arrays |= {f"{name}/predicted/{key}": np.linspace(0, 1, 17) for key in whole}
    require_drawn(linearised.figures.draw(config, arrays))
    summary = linearised.summarise(config, arrays)
    assert summary[f"{name}/full/seeds"] == SEEDS
    assert summary[f"{name}/linearised/seeds"] == SEEDS - len(gone)
    left = [seed for seed in range(SEEDS) if seed not in gone]
    parted = summary[f"{name}/linearised/p_noise/parted"]
    if left:
        expected = whole["p_noise"][-1, left].mean()
        assert summary[f"{name}/linearised/p_noise"] == pytest.approx(expected, rel=1e-6)
        # Both curves are the same: what the lost ones recorded would part at once.
        assert parted == -1
    else:
        assert np.isnan(summary[f"{name}/linearised/p_noise"])
        assert np.isnan(parted)


@pytest.mark.fault("B3")
@pytest.mark.parametrize("gone", [*LOST.values(), (0, 1, 2, 3)], ids=[*LOST, "all of one cell"])
def test_plateau(gone):
    config = Plateau(learning_rates=(0.01, 0.02), batch_sizes=(4,), momenta=(0.5,),
                     num_seeds=SEEDS, watched=64)  # fmt: skip
    arrays, rng = {}, np.random.default_rng(0)
    for name in ("batch4/rate0.01/momentum0.5", "batch4/rate0.02/momentum0.5"):
        here = {kind: 0.5 + 0.02 * rng.standard_normal((SEEDS, 64)) for kind in config.kinds}
        here |= {"sharpness": np.full((SEEDS, 2), 9.0), "curvatures": np.full((SEEDS, 6), 5.0),
                 "weights": np.full((SEEDS, 6), 1e-4)}  # fmt: skip
        if "0.02" in name:
            for values in here.values():
                values[list(gone)] = np.nan
        arrays |= {f"{name}/{key}": values for key, values in here.items()}
        arrays[f"{name}/labels"] = np.array(12.0)
    rows = plateau.compare(config, arrays)
    assert [(row["seeds"], row["seeds_lost"]) for row in rows] == [
        (SEEDS, 0), (SEEDS - len(gone), len(gone)),
    ]  # fmt: skip
    require_drawn([("plateau", plateau_figures.draw(config, arrays, rows))])
    summary = plateau.summarise(rows)
    json.dumps(summary, allow_nan=False)
    assert summary["cells"] == 2


@pytest.mark.fault("B3", "A14")
@lost_seeds
def test_sweep(gone, capsys, tmp_path):
    """One point loses seeds, another all of them: the table and every figure are of the rest."""
    config = SWEEP(alpha=(0.1, 0.3, 0.5), num_tokens=(16, 32), num_seeds=SEEDS)
    arrays, found = {}, []
    for group, tokens in enumerate(config.num_tokens):
        runs = [(a, s) for a in config.alpha for s in range(SEEDS)]
        first = np.full(len(runs), -1)
        if tokens == 32:
            for place, (alpha, seed) in enumerate(runs):
                if alpha == 0.5 or (alpha == 0.3 and seed in gone):
                    first[place] = 3
        numbers = np.arange(len(runs)) + len(found)
        for row, (run, (alpha, seed)) in enumerate(zip(numbers, runs, strict=True)):
            told = {"run": int(run), "num_tokens": tokens, "alpha": alpha, "seed": seed}
            if first[row] >= 0:
                found.append(told | {"lost_at": 3})
                continue
            value = 0.1 + 0.01 * int(run)
            found.append(told | {"lost_at": None, "clean/full/p_correct": value,
                                 "clean/full/p_noise": value, "half_step/noise": 3.0,
                                 # Never reached in one of the runs that went well.
                                 "half_step/attention": None if run == 1 else 20.0,
                                 "half_step/ratio": None,
                                 "1.fc_out/noise_over_rest": 2.0})  # fmt: skip
        curves = np.where(first >= 0, np.nan, number(RECORDS, len(runs)))
        arrays |= {f"group{group}/models/clean/full/{m}": curves for m in ("p_correct", "p_noise")}
        arrays |= {f"group{group}/models/steps": STEPS, f"group{group}/runs": numbers}
    # A lost run may be the first of the table.
    found = sweep_rows.whole([found[-1] | {"run": -1, "seed": 9}, *found])
    assert len({tuple(row) for row in found}) == 1
    require_drawn(sweep_figures.draw(config, found, arrays, []))
    summary = sweep.summarise(config, found)
    point, dead = "num_tokens=32,alpha=0.3", "num_tokens=32,alpha=0.5"
    left = [r["clean/full/p_correct"] for r in found
            if (r["num_tokens"], r["alpha"]) == (32, 0.3) and r["lost_at"] is None]  # fmt: skip
    assert summary[f"{point}/clean/full/p_correct"] == pytest.approx(np.mean(left))
    assert summary[f"{point}/clean/full/p_correct/seeds"] == SEEDS - len(gone)
    assert (summary[f"{point}/seeds"], summary[f"{point}/seeds_lost"]) == (len(left), len(gone))
    assert np.isnan(summary[f"{dead}/clean/full/p_correct"])
    assert summary[f"{dead}/seeds"] == 0
    directory = type("Directory", (), {"path": tmp_path})()
    sweep.report(config, found, directory)
    told = capsys.readouterr().out
    assert f"{SEEDS - len(gone)} of {SEEDS}" in told
    assert "20 ± 0 (3 of 4)" in told


@pytest.mark.fault("B3")
def test_find_noise():
    """A rule that has no figure for some seeds, or for any."""
    rows = [
        {"step": step, "seed": seed, "rule": rule, "chosen": "1.mlp@0", "warning": "",
         "p_correct": None if seed in missing else 0.5, "p_noise": 0.2, "accuracy": 0.5,
         "loss": 1.0, "evaluations": 3.0 * (rule != "full model"), "seconds": 0.1,
         "noise_removed": None if seed in missing else 0.5, "outputs_removed": 0.1,
         "rank_correlation": None if seed in missing else 0.9}
        for step in (10, 20) for seed in range(SEEDS)
        for rule, missing in (("full model", ()), ("grid", (0, 2)), ("gradient-guided", (1,)),
                              ("random search", range(SEEDS)), ("Gavish-Donoho", ()))
    ]  # fmt: skip
    require_drawn([("rules", find_noise.figures.rules(rows, 20))])
    final = [row for row in rows if row["step"] == 20]
    summary = find_noise.summarise(final)
    assert summary["clean/grid/p_correct"] == 0.5
    assert summary["clean/grid/p_correct/seeds"] == 2
    assert summary["guided/missed_p_correct"] == 0.0
    assert summary["guided/rank_correlation"] == pytest.approx(0.9)
    assert find_noise.paper_table(final, summary)[3]["p(correct)"] == "-"


@pytest.mark.fault("B3")
@lost_seeds
def test_history(gone):
    """What toy.train returns knows a lost seed by its last loss."""
    arrays = spoilt(recall_arrays(), gone)
    del arrays[seeds.FIRST_BAD]
    setup = build(NoisyRecall(num_tokens=4, length=8, d_model=4, interventions=("1.mlp@0",)))
    require_drawn([("history", History(setup, arrays, None).plot())])


@pytest.mark.fault("B3")
def test_a_band_leaves_out_what_is_not_finite():
    _, ((axes,),) = style.figure(1, 1)
    values = np.array([[1.0, 3.0, np.nan], [np.nan, np.nan, np.nan], [2.0, np.nan, np.nan]])
    style.band(axes, np.arange(3), values, label="", color="k")
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [2.0, np.nan, 2.0])


@pytest.mark.fault("A14")
def test_means_say_of_how_many():
    assert seeds.told("a", np.array([1.0, 3.0])) == {"a": 2.0, "a/sem": 1.0}
    assert seeds.told("a", np.array([1.0, np.nan])) == {"a": 1.0, "a/seeds": 1}
    assert seeds.told("a", np.array([1.0, 3.0, np.inf])) == {"a": 2.0, "a/sem": 1.0, "a/seeds": 2}
    nothing = seeds.told("a", np.array([np.nan]))
    assert np.isnan(nothing["a"])
    assert nothing["a/seeds"] == 0
    assert seeds.sentence({"seeds": 1, "seeds_lost": 3}).startswith("means are of 1 of 4 seeds")
    assert seeds.sentence({"seeds": 4, "seeds_lost": 0}) == ""


@pytest.mark.fault("B3")
def test_where_all_are_lost_nothing_is_a_mean():
    with pytest.raises(ValueError, match="all 4 seeds left the finite numbers"):
        seeds.surviving(spoilt(recall_arrays(), range(SEEDS)))


TINY = [
    "--num_tokens=5", "--length=12", "--d_model=8", "--batch_size=4", "--feed_forward=linear",
    "--interventions=0.fc_in@0", "--rhos=0,0.5,1", "--devices=1", "--eval_batch=8",
    "--final_batch=8", "--num_seeds=4", "--steps=15",
]  # fmt: skip


@pytest.mark.fault("B3", "A14")
@pytest.mark.thorough
def test_a_run_that_loses_seeds_and_what_reads_it(drive, tmp_path):
    """Diverged for true; --redraw and truncate go on with the seeds that are left."""
    out, redrawn = f"--out={tmp_path / 'run'}", tmp_path / "run" / "figures"
    (run,) = drive("noisy_recall", [*TINY, "--learning_rate=0.7", out])
    assert run["code"] == 0, run["err"]
    assert "left the finite numbers" in run["err"]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    kept, gone = summary["seeds"], summary["seeds_lost"]
    assert 0 < kept < 4
    assert kept + gone == 4
    assert f"means are of {kept} of 4 seeds" in run["out"]
    assert 0 < summary["clean/full/p_noise"] < 1
    before = (redrawn / "recall.png").read_bytes()
    (again,) = drive("noisy_recall", ["--redraw", out])
    assert again["code"] == 0, again["err"]
    assert (redrawn / "recall.png").read_bytes() == before
    source = f"--run={tmp_path / 'run'}"
    (cut,) = drive("truncate", [source, f"--out={tmp_path / 'cut'}", "--num_sequences=32"])
    assert cut["code"] == 0, cut["err"]
    summary = json.loads((tmp_path / "cut" / "summary.json").read_text())
    assert (summary["seeds"], summary["seeds_lost"]) == (kept, gone)
    assert 0 < summary["clean/full/p_noise"] < 1


@pytest.mark.fault("B3", "A14")
@pytest.mark.thorough
def test_find_noise_judges_the_seeds_that_are_left(recall_run, drive, tmp_path):
    """A run whose first seed is lost at its last checkpoint."""
    path = tmp_path / "run"
    path.mkdir()
    (path / "config.json").write_bytes((recall_run / "config.json").read_bytes())
    _, step, state = recall_setup.restore(recall_run)
    poisoned = jax.tree.map(lambda leaf: leaf.at[0].set(np.nan), state.params)
    store = Store(path / "checkpoints")
    store.save(step, state._replace(params=poisoned, first_bad=state.first_bad.at[0].set(7)))
    store.wait()
    few = ["--validation=8", "--test=16", "--batch_size=8", f"--out={tmp_path / 'found'}"]
    (found,) = drive("find_noise", [f"--run={path}", *few])
    assert found["code"] == 0, found["err"]
    assert "1 of 2 seeds left the finite numbers and are not judged" in found["err"]
    assert "means are of 1 of 2 seeds" in found["out"]
    summary = json.loads((tmp_path / "found" / "summary.json").read_text())
    assert (summary["seeds"], summary["seeds_lost"]) == (1, 1)
    assert 0 < summary["clean/full_model/p_noise"] < 1


@pytest.mark.fault("B3")
@pytest.mark.thorough
def test_a_run_that_loses_all_seeds_ends_with_one_line(drive, tmp_path):
    command = [*TINY, "--learning_rate=1e30", f"--out={tmp_path / 'run'}"]
    # The same command once more ends the same way.
    for ended in drive("noisy_recall", command, command):
        assert ended["code"] == 1
        errors = [line for line in ended["err"].splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert "is not finite at step" in errors[0]
        assert "Traceback" not in ended["err"]
    # What was recorded until then is there, and no summary.
    with np.load(tmp_path / "run" / "trajectory.npz") as arrays:
        assert (arrays[seeds.FIRST_BAD] >= 0).all()
        assert len(arrays["models/steps"])
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.fault("B3")
@pytest.mark.thorough
def test_a_sweep_whose_one_shape_loses_all_its_runs(drive, tmp_path):
    """Its other shape is measured and drawn; a sweep that loses all says so in one line."""
    tiny = ["--num_tokens=5", "--length=10", "--batch_size=4", "--steps=4",
            "--feed_forward=linear", "--interventions=0.fc_in@0", "--alpha=0.5", "--eval_batch=8",
            "--devices=1"]  # fmt: skip
    both = [*tiny, "--d_model=4,6", "--learning_rate=1e30,0.3", "--zip=d_model+learning_rate"]
    (ended,) = drive("sweep", [*both, f"--out={tmp_path / 'some'}"])
    assert ended["code"] == 0, ended["err"]
    assert "0 of 2" in ended["out"]
    assert len((tmp_path / "some" / "sweep.csv").read_text().splitlines()) == 5
    command = [*tiny, "--d_model=4", "--learning_rate=1e30", f"--out={tmp_path / 'all'}"]
    for ended in drive("sweep", command, command):
        assert ended["code"] == 1
        last = ended["err"].splitlines()[-1]
        assert last.startswith("error: all 2 runs left the finite numbers")
    assert (tmp_path / "all" / "sweep.csv").exists()


@pytest.mark.fault("B3")
@pytest.mark.thorough
def test_linearised_and_plateau_where_some_or_all_is_lost(drive, tmp_path):
    shape = ["--num_tokens=5", "--length=8", "--num_seeds=2"]
    small = [*shape, "--widths=4", "--steps=12", "--batch_size=4", "--eval_batch=8",
             "--variants=full,linearised"]  # fmt: skip
    watched = [*shape, "--d_model=4", "--batch_sizes=4", "--momenta=0.5", "--settling=12",
               "--watched=48"]  # fmt: skip
    for name, given in (("linearised", small), ("plateau", watched)):
        some, every = (f"--out={tmp_path / f'{name}_{word}'}" for word in ("some", "all"))
        (ended,) = drive(name, [*given, "--learning_rates=0.02,100", some])
        assert ended["code"] == 0, ended["err"]
        assert "0 of 2" in ended["out"]
        alone = ["--variants=full"] if name == "linearised" else []
        (ended,) = drive(name, [*given, *alone, "--learning_rates=100", every])
        assert ended["code"] == 1
        assert "left the finite numbers; lower --learning_rates" in ended["err"].splitlines()[-1]
        assert (tmp_path / f"{name}_all" / "trajectory.npz").exists()
