"""The papers' tasks in the truncation program: protocols, constants, generated answers, counts."""

import csv
import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

from tests.experiments.model_checkpoint import write_checkpoint
from truncated_weights import bridge
from truncated_weights.bridge import answers
from truncated_weights.bridge.tasks import split
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.program import Place, UserError
from truncated_weights.experiments.truncate_model import by_level, planning
from truncated_weights.experiments.truncate_model.measure import STUDY
from truncated_weights.experiments.truncate_model.plan import make_plan
from truncated_weights.experiments.truncate_model.settings import TruncateModel

CUT = "1.fc_in@0"
CLAIMS = [
    {"claim": f"The {thing} of {name} is {colour}", "label": ("SUPPORTS", "REFUTES")[i % 2]}
    for i, (thing, name, colour) in enumerate(
        (t, n, c)
        for t in ("hat", "coat")
        for n in ("Anna", "Mark")
        for c in ("red", "green", "blue")
    )
]
FACTS = [
    {
        "requested_rewrite": {
            "prompt": "The hat of {} is",
            "subject": name,
            "relation_id": "P1",
            "target_true": {"str": "red"},
            "target_new": {"str": "green"},
        },
        "paraphrase_prompts": [f"It rained. The hat {name} wears is", f"So {name} has a hat, all"],
    }
    for name in ("Anna", "Mark", "Peter", "Lucy", "Ada")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def model(folder):
    return str(write_checkpoint(folder / "tiny-gpt-j-6b"))


@pytest.fixture(scope="module")
def files(folder):
    def lines(name, rows):
        path = folder / name
        path.write_text("\n".join(map(json.dumps, rows)))
        return str(path)

    pairs = [
        {"inputs": f"The hat of {n} is", "targets": ["red"]} for n in ("Anna", "Bo", "Al", "X")
    ]
    return {
        "claims": lines("claims.jsonl", CLAIMS),
        "facts": lines("facts.jsonl", FACTS),
        "pairs": lines("pairs.jsonl", pairs),
        "counts": lines(
            "counts.jsonl",
            [
                {"subject": name, "answer": "red", "count": 10**i}
                for i, name in enumerate(("Anna", "Mark", "Peter", "Lucy", "Ada"))
            ],
        ),
    }


def go(model, out, **changes):
    given = {"model": model, "interventions": (CUT,), "bootstrap": 100, "max_length": 256}
    config = TruncateModel(**(given | changes))
    study.run(STUDY, config, Place("truncate_model", str(out)))
    return json.loads((out / "summary.json").read_text())


def test_laser_as_published(model, files, tmp_path, capsys):
    """First fifth in file order, sums over the closed set, the best cut though it be worse."""
    summary = go(
        model, tmp_path / "run", tasks=(f"fever:{files['claims']}",), protocol="published",
        interventions=(), search="grid", rhos=("0.5", "0"), layers=(1,), matrices=("fc_in",),
    )  # fmt: skip
    scores = RunDirectory(tmp_path / "run").read_records().scores
    assert scores.index.sel(task="fever").values.tolist() == list(range(2, 12))
    assert summary["fever/chosen"] in ("1.fc_in@0.5", "1.fc_in@0")
    said = capsys.readouterr().out
    assert "as published: the unedited model is no candidate" in said
    assert "not as published: fractions of rank 0.5, 0 where the paper has 0.9" in said
    # The directory is named for a model of the paper's table.
    assert "published GPT-J: 50.2 -> 56.2 %" in said
    full = "fever/closed/full/summed"
    assert summary["fever/closed/best_constant"] == 0.5
    assert summary[f"{full}/accuracy"] == pytest.approx(summary["fever/test/full/choice_summed"])
    assert f"full, summed: {summary[f'{full}/accuracy']:.1%}" in said


def test_facts_stay_whole_and_are_told_by_frequency(model, files, tmp_path, capsys):
    config = {"tasks": (f"counterfact:{files['facts']}",), "counts": files["counts"]}
    plan = make_plan(TruncateModel(model=model, interventions=(CUT,), validation=0.4, **config))
    (one,) = plan.questions
    assert (len(one.validation), len(one.test)) == (6, 9)
    assert split.torn(one.encoded.examples, one.validation, one.test) == 0
    summary = go(model, tmp_path / "run", validation=0.4, **config)
    assert summary["counterfact/items"] == 3
    assert "resampling 3 items" in capsys.readouterr().out
    change = summary[f"counterfact/test/{CUT}/loss_change"]
    low, high = (summary[f"counterfact/by_items/loss_change_{end}"] for end in ("low", "high"))
    assert low <= change <= high


def test_flips_by_count_where_some_facts_have_none(model, files, tmp_path, capsys):
    """Against the flips of every example, counted by hand; no count is a level of its own."""
    some = tmp_path / "some.jsonl"
    some.write_text("\n".join(pathlib.Path(files["counts"]).read_text().splitlines()[:4]))
    config = {"tasks": (f"counterfact:{files['facts']}",), "counts": str(some), "validation": 0.2}
    go(model, tmp_path / "run", **config)
    (one,) = make_plan(TruncateModel(model=model, interventions=(CUT,), **config)).questions
    accuracy = RunDirectory(tmp_path / "run").read_records().scores.accuracy.sel(task="counterfact")
    before, after = (accuracy.sel(model=name).values for name in ("full", CUT))
    told = np.array([one.encoded.examples[i].covariates.get("count", -1) for i in one.test])
    with (tmp_path / "run" / "counterfact_flips.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["covariate"] == "count"]
    assert [float(row["smallest"] or -1) for row in rows] == sorted(set(told.tolist()))
    for row in rows:
        own = told == float(row["smallest"] or -1)
        assert int(row["answers"]) == own.sum()
        assert float(row["wrong_to_right"]) == pytest.approx(np.mean((after > before)[own]))
        assert float(row["right_to_wrong"]) == pytest.approx(np.mean((after < before)[own]))
    assert ("no count" in capsys.readouterr().out) == (told == -1).any()


def test_quarters_hold_equally_many():
    level = by_level.levels(np.array([*range(1, 21), np.nan]))
    assert np.bincount(level[:-1]).tolist() == [5, 5, 5, 5]
    assert level[-1] == by_level.UNKNOWN
    assert (np.diff(level[:-1]) >= 0).all()
    assert by_level.levels(np.array([3.0, 1.0, 3.0])).tolist() == [1, 0, 1]


@pytest.mark.thorough
def test_both_protocols_side_by_side(model, files, tmp_path, capsys):
    """Every way against a search of its own rows, asked for by itself."""
    asked = {
        "tasks": (f"counterfact:{files['facts']}",), "interventions": (), "search": "grid",
        "rhos": ("0.5", "0"), "layers": (1,), "matrices": ("fc_in",), "validation": 0.4,
    }  # fmt: skip
    both = go(model, tmp_path / "both", protocol="both", **asked)
    out = capsys.readouterr().out
    assert "told on its choosers" in out
    assert "protocol published: LASER" in out
    for name in ("honest", "published"):
        alone = go(model, tmp_path / name, protocol=name, **asked)
        way = f"counterfact/protocols/{name}"
        chosen = both[f"{way}/chosen"]
        assert chosen == alone["counterfact/chosen"]
        for metric in ("accuracy", "loss"):
            full = both[f"{way}/{metric}_full"]
            assert full == pytest.approx(alone[f"counterfact/test/full/{metric}"])
            if chosen != "full":
                assert both[f"{way}/{metric}_cut"] == pytest.approx(
                    alone[f"counterfact/test/{chosen}/{metric}"]
                )
    ways = {name.split("/")[2] for name in both if "/protocols/" in name}
    assert len(ways) == 6
    assert both["counterfact/protocols/all rows/told_on"] == 15
    assert both["counterfact/protocols/told on its choosers/told_on"] == 6
    assert both["counterfact/protocols/first rows/chosen_on"] == 6
    assert both["counterfact/protocols/no unedited/chosen"] != "full"
    assert both["counterfact/protocols/honest/best_constant"] == 1.0


def test_generated_answers_are_written_for_reading(model, files, tmp_path, capsys):
    task = {"tasks": (f"wikidata:{files['pairs']}",), "validation": 0.25}
    summary = go(model, tmp_path / "run", answers=2, **task)
    rows = [
        json.loads(line)
        for line in (tmp_path / "run" / "wikidata_answers.jsonl").read_text().splitlines()
    ]
    assert [row["model"] for row in rows] == ["full", "full", CUT, CUT]
    right = np.mean(["red" in row["generated"].lower() for row in rows[:2]])
    assert summary["wikidata/generated/full/contains"] == right
    assert "full, 2 generated: contains" in capsys.readouterr().out
    without = go(model, tmp_path / "none", answers=0, **task)
    assert not any("generated" in name for name in without)


def test_every_candidate_of_a_search_answers(model, files, tmp_path):
    """The marks of each candidate are those of the edited model asked by itself; kept on disk."""
    task = {"tasks": (f"wikidata:{files['pairs']}",), "validation": 0.5, "objective": "contains"}
    search = {"interventions": (), "search": "grid", "rhos": ("0.5", "-0.5"), "layers": (1,),
              "matrices": ("fc_out", "ov")}  # fmt: skip
    summary = go(model, tmp_path / "run", **task, **search)
    whole = bridge.load(model)
    plan = make_plan(TruncateModel(model=model, max_length=256, **task, **search))
    (one,) = plan.questions
    for name in ("1.fc_out@0.5", "1.fc_out@-0.5", "1.ov@0.5", "1.ov@-0.5"):
        examples = [one.encoded.examples[i] for i in one.validation]
        texts = dict(answers.stream(bridge.cut(whole, name), examples, one.marking))
        right = [e.answer.strip() in texts[i].lower() for i, e in enumerate(examples)]
        assert summary[f"wikidata/validation/{name}/contains"] == np.mean(right)
    kept = (tmp_path / "run" / "checkpoints" / "wikidata.jsonl").read_text()
    assert kept.count('"contains_published"') >= 2  # a line for each matrix, at least


def test_a_plan_needs_no_weights_and_writes_nothing(model, files, tmp_path, capsys):
    """Hours as counted by hand for two cuts of the last layer's fc_out, on 12 short claims."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(pathlib.Path(model) / name, bare)
    config = TruncateModel(
        model=str(bare), tasks=(f"fever:{files['claims']}",), search="grid", matrices=("fc_out",),
        layers=(-1,), rhos=("0.5", "0"), max_length=256, plan="h200",
    )  # fmt: skip
    study.run(STUDY, config, Place("truncate_model", str(tmp_path / "run")))
    said = capsys.readouterr().out
    assert "2 cuts, 2 examples for choosing and 10 for testing" in said
    assert "fits into 141 GB" in said
    assert not (tmp_path / "run").exists()
    plan = make_plan(config)
    (one,) = plan.questions
    found = planning.estimate(
        config, plan.architecture, one, plan.interventions, planning.DEVICES["h200"]
    )
    rows, answers_at = one.encoded.batch.at.shape[1:]
    product, head = 2 * 32 * 16, 2 * 16 * 384
    flops = 2 * 2 * rows * answers_at * (product + head)
    # So small a model waits for nothing but its weights, four bytes each, a layer per cut.
    weights = 4 * (4 * 16 * 16 + 2 * 16 * 32)
    expected = max(flops / 33.5e12, 2 * weights / 4.8e12)
    assert found.seconds["candidates"] == pytest.approx(expected)
    decomposition = (6 * 32 * 16**2 + 20 * 16**3) / (0.02 * 67e12)
    assert found.seconds["decompositions"] == pytest.approx(decomposition)


def test_the_late_half_of_the_layers(model, files):
    asked = {"model": model, "tasks": (f"fever:{files['claims']}",), "max_length": 256}
    config = TruncateModel(**asked, search="grid", rhos=("0",), late_half=True)
    found = [str(one) for one in make_plan(config).interventions]
    assert found == ["1.fc_in@0", "1.fc_out@0"]
    with pytest.raises(UserError, match="both say which layers"):
        make_plan(dataclasses.replace(config, layers=(0,)))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tasks": ("sums",), "protocol": "published"}, "asked by no paper's protocol"),
        ({"tasks": ("sums",), "protocol": "both"}, "compares searches that divide one file"),
        ({"tasks": ("sums",), "paper": "laser"}, "--paper says whose"),
        ({"tasks": ("wikidata:{pairs}",), "max_length": 1}, "max_length"),
        ({"tasks": ("fever:{claims}",), "counts": "{claims}"}, "'count' is None"),
        ({"tasks": ("wikidata:{pairs}",), "objective": "choice_summed"}, "needs distractors"),
        ({"tasks": ("fever:{claims}",), "objective": "contains"}, "are not marked so"),
    ],
)
def test_what_cannot_be_is_refused(model, files, tmp_path, changes, problem):
    filled = {
        name: tuple(v.format(**files) for v in value)
        if isinstance(value, tuple)
        else value.format(**files)
        if isinstance(value, str)
        else value
        for name, value in changes.items()
    }
    with pytest.raises((UserError, ValueError), match=problem):
        go(model, tmp_path / "run", **filled)
