"""The program that shows tasks: what it counts, and what it refuses."""

import json
import math

import pytest

from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.program import Place, UserError
from truncated_weights.experiments.tasks.__main__ import PROGRAM
from truncated_weights.experiments.tasks.measure import STUDY
from truncated_weights.experiments.tasks.settings import ShowTasks

OPTIONS = {f"{option} {i}": int(i == 0) for i in range(4) for option in ("It is", "It was")}
ROWS = [
    {"question": f"What is {i}?", "mc2_targets": {f"{text} {i}": k for text, k in OPTIONS.items()}}
    for i in range(10)
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "truthful.json"
    path.write_text(json.dumps(ROWS))
    return path


def show(tmp_path, **changes):
    config = ShowTasks(**changes)
    study.run(STUDY, config, Place("tasks", str(tmp_path / "run"), overwrite=True))
    return json.loads((tmp_path / "run" / "summary.json").read_text())


def test_what_is_counted(tmp_path, file, capsys):
    found = show(tmp_path, tasks=(f"truthfulqa:{file}",), shown=1)
    assert found["truthfulqa/examples"] == 80
    assert found["truthfulqa/items"] == 10
    assert (found["truthfulqa/validation"], found["truthfulqa/test"]) == (16, 64)
    assert found["truthfulqa/torn"] == 0
    # 6 of 8 options are false.
    assert found["truthfulqa/commonest_answer"] == " false"
    assert math.isclose(found["truthfulqa/commonest_share"], 0.75)
    said = capsys.readouterr().out
    assert "Is this statement true or false? This statement is[ true]" in said
    assert "best constant answer: ' false', right in 75.00%" in said
    assert "published Llama-2-7B: 50.5 -> 56.2 %" in said
    assert (tmp_path / "run" / "figures" / "lengths.png").stat().st_size > 5000
    (tmp_path / "run" / "figures" / "lengths.png").unlink()
    study.redraw(STUDY, str(tmp_path / "run"))
    assert (tmp_path / "run" / "figures" / "lengths.png").exists()


def test_the_published_split_tears_questions(tmp_path, file, capsys):
    found = show(tmp_path, tasks=(f"truthfulqa:{file}",), protocol="published", validation=0.25)
    # The first 20 rows are two questions and half of the third.
    assert (found["truthfulqa/validation"], found["truthfulqa/torn"]) == (20, 4)
    assert "as published: the unedited model is no candidate" in capsys.readouterr().out


def test_without_tasks_every_card_is_told(tmp_path, capsys):
    study.run(STUDY, ShowTasks(), Place("tasks", str(tmp_path / "run")))
    said = capsys.readouterr().out
    for name in ("counterfact", "bios_gender", "gsm8k", "integer_products", "cb", "ioi"):
        assert f"\n{name}\n" in f"\n{said}"
    assert "options   style=thought:shots=0:exemplars=:train=:seed=0" in said
    assert max(map(len, said.splitlines())) <= 130
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tasks": ("fever:/nowhere.jsonl",)}, "/nowhere.jsonl: no such file"),
        ({"tasks": ("sums",), "protocol": "published"}, "asked by no paper's protocol"),
        ({"tasks": ("sums",), "counts": "/nowhere.json"}, "/nowhere.json: no such file"),
        ({"tasks": ("sums",), "tokenizer": "/nowhere"}, "/nowhere"),
        ({"tasks": ("integer_sums", "integer_sums:")}, "names one task twice"),
        ({"tasks": ("sums",), "num_examples": 1}, "both sides need at least one"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, changes, problem):
    with pytest.raises(UserError, match=problem):
        show(tmp_path, **changes)


def test_the_program_by_its_command_line(tmp_path, file, capsys):
    out = f"--out={tmp_path / 'run'}"
    assert PROGRAM.run([f"--tasks=truthfulqa:{file}", "--nocompilation_cache", out]) == 0
    assert PROGRAM.run(["--tasks=fever", "--nocompilation_cache", out]) == 2
    assert capsys.readouterr().err.startswith("error: task fever: expected fever:FILE; it reads")
