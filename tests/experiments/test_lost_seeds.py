"""Seeds that were lost: every figure and summary is of the others, and says of how many.

Records are made here, seeds lost half way: NaN from there on, and what was recorded before is a
trap that no mean may step into.
"""

import json

import jax
import numpy as np
import pytest

from tests.experiments.drawn import TRAP, require_drawn
from truncated_weights import toy
from truncated_weights.experiments.associative_memory import figures as memory_figures
from truncated_weights.experiments.associative_memory import measure as memory
from truncated_weights.experiments.associative_memory.settings import Memory
from truncated_weights.experiments.noisy_recall import figures as recall_figures
from truncated_weights.experiments.noisy_recall import measure as noisy_recall
from truncated_weights.experiments.run.drawing import style
from truncated_weights.experiments.run.inputs import recall_setup
from truncated_weights.toy.run import Run
from truncated_weights.toy.settings import NoisyRecall
from truncated_weights.toy.setup import build
from truncated_weights.training import records
from truncated_weights.training.checkpoint import Store
from truncated_weights.training.records import FIRST_BAD, Records, labelled, name

SEEDS, STEPS = 4, [0, 1, 2, 4, 8, 16]
# Which seeds are lost: some, and all but one.
LOST = {"some": (0, 2), "all but one": (0, 1, 3)}
lost_seeds = pytest.mark.parametrize("gone", LOST.values(), ids=LOST)
SMALL = NoisyRecall(num_tokens=4, length=8, d_model=4, num_seeds=SEEDS, interventions=("1.mlp@0",))


def number(*shape):
    return np.random.default_rng(sum(shape)).uniform(0.1, 0.9, shape).astype(np.float32)


def block(*names, steps=STEPS, ranks=3):
    leading = ({"step": steps} if steps else {}) | {"seed": range(SEEDS)}
    shape = tuple(map(len, leading.values()))
    values = {found: number(*shape, *[ranks] * len(found.dims)) for found in names}
    return labelled(values, leading)


def train(gone=()):
    first = np.where(np.isin(np.arange(SEEDS), gone), 3, -1)
    values = {name("loss"): number(len(STEPS), SEEDS), name(FIRST_BAD): np.tile(first, (6, 1))}
    return labelled(values, {"step": STEPS, "seed": range(SEEDS)})


def spoilt(found, gone):
    """The same records with these seeds lost before the fourth; first_bad says so."""
    blocks = {}
    for label, data in found.items():
        away = data.seed.isin(gone)
        if "step" in data.dims:
            data = data.where(~(away & (data.step < 4)), TRAP)
            away = away & (data.step >= 4)
        blocks[label] = data.where(~away)
    return Records(blocks | {"train": train(gone)})


def without(found, gone):
    return Records({label: data.drop_sel(seed=list(gone)) for label, data in found.items()})


def recall_records():
    both, models = ("clean", "noisy"), ("full", "1.mlp@0")
    metrics = ("p_correct", "p_noise", "attention_correct", "attention_noise",
               "attention_previous")  # fmt: skip
    along = [name(m, set=s, model=model) for m in metrics for s in both for model in models]
    along += [name("margin", set=s, model="full", block=b)
              for s in both for b in ("feed_forward_0", "attention_0")]  # fmt: skip
    said = [name("bigram_kl", feed_forward=part) for part in ("0", "uniform")]
    said += [name("recall", association="copy"), name("feed_forward_margin", feed_forward="0")]
    cuts = [name(m, set="clean", model=f"1.fc_in@{rho}")
            for m in ("p_correct", "p_noise") for rho in ("0", "0.1", "0.5", "1")]  # fmt: skip
    values = [name(v, "rank", matrix="1.fc_in") for v in ("singular_values", "noise_share")]
    return Records(
        {
            "models": block(*along),
            "mechanisms": block(*said),
            "bigrams": block(name("loss"), name("entropy")),
            "spectra": block(*values),
            "train": train(),
            "final": block(*cuts, steps=()),
        }
    )


def told(summary):
    return {k: v for k, v in summary.items() if not k.endswith("/seeds")}


@pytest.mark.fault("B3")
@lost_seeds
def test_noisy_recall(gone):
    found = recall_records()
    left = spoilt(found, gone).surviving()
    require_drawn(recall_figures.figures(SMALL, left))
    setup = build(SMALL)
    alone = noisy_recall.summarise(setup, without(found, gone))
    assert noisy_recall.summarise(setup, left) == alone
    assert records.counted(spoilt(found, gone)) == {
        "seeds": SEEDS - len(gone), "seeds_lost": len(gone),
    }  # fmt: skip


@pytest.mark.fault("B3")
def test_noisy_recall_on_the_brink():
    """Weights still finite and too large: what is derived of them is not, in some or all seeds."""
    found = recall_records()
    for variable in ("singular_values", "noise_share"):
        found.spectra[variable][-1] = np.inf
        found.spectra[variable][-2, 1:] = np.nan
    found.models.p_noise.loc[{"step": 16, "seed": 2, "set": "clean", "model": "full"}] = np.nan
    found.bigrams.entropy[-1] = np.inf
    found.models.margin.loc[{"step": 16, "set": "clean", "block": "attention_0"}] = 3e38
    require_drawn(recall_figures.figures(SMALL, found))
    noisy_recall.summarise(build(SMALL), found)


@pytest.mark.fault("B3")
@lost_seeds
def test_associative_memory(gone):
    config = Memory(num_inputs=3, num_seeds=SEEDS, step_size=0.1, d_model=8)
    outputs = [name(m, model=model) for m in ("p_noise", "p_correct") for model in ("full", "cut")]
    logits = [name(kind) for kind in ("correct", "other", "noise")]
    spectrum = [name(v, "rank") for v in ("singular_values", "noise_share")]
    found = Records({"memory": block(*outputs), "logits": block(*logits, *spectrum)})
    left = spoilt(found, gone).surviving()
    require_drawn(memory_figures.figures(config, left))
    plan = memory.prepare(config)
    assert memory.summarise(plan, left) == memory.summarise(plan, without(found, gone))


@pytest.mark.fault("B3")
@lost_seeds
def test_a_run_in_a_notebook(gone):
    """What toy.train returns knows a lost seed by its last loss too."""
    broken = spoilt(recall_records(), gone)
    old = train().drop_vars(FIRST_BAD)
    old.loss[-1, list(gone)] = np.nan
    for known in (broken, broken.with_block("train", old)):
        for axes in Run(SMALL, known).plot().axes:
            for line in axes.lines:
                assert np.isfinite(line.get_ydata()).all()
                assert not np.any(line.get_ydata() == TRAP)


@pytest.mark.fault("B3")
def test_a_band_leaves_out_what_is_not_finite():
    _, ((axes,),) = style.figure(1, 1)
    values = np.array([[1.0, 3.0, np.nan], [np.nan, np.nan, np.nan], [2.0, np.nan, np.nan]])
    style.band(axes, np.arange(3), values, label="", color="k")
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [2.0, np.nan, 2.0])


@pytest.mark.fault("A14")
def test_means_say_of_how_many():
    assert records.lost_told({"seeds": 1, "seeds_lost": 3}).startswith("means are of 1 of 4 seeds")
    assert records.lost_told({"seeds": 4, "seeds_lost": 0}) == ""


@pytest.mark.fault("B3")
def test_where_all_are_lost_nothing_is_a_mean():
    with pytest.raises(ValueError, match="all 4 seeds left the finite numbers"):
        spoilt(recall_records(), range(SEEDS)).surviving().models  # noqa: B018


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
    left = toy.open(tmp_path / "run").records
    assert (left.train[records.FIRST_BAD].isel(step=-1) >= 0).all()
    assert left.models.sizes["step"]
    assert not (tmp_path / "run" / "summary.json").exists()
