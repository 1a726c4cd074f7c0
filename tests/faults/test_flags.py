"""Random command lines, seeded: done or told in one line, never a traceback, strict JSON after.

Most lines name as --out a directory whose run is finished: what passes every check is then
refused there, before any work. One in ten gets a directory of its own and runs.
"""

import importlib
import json
import keyword
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.faults.programs import ROOT, TINY, require_strict
from tests.faults.values import Pins, draw

SILENT = 10.0
# What keeps a run that passes every check within seconds.
EXTRA = {
    "noisy_recall": (("steps", "2", "1", "3"), ("final_batch", "4", "2"), ("eval_batch", "2", "3"),
                     ("num_seeds", "1", "2"), ("num_noise", "1", "2"), ("num_triggers", "1", "2"),
                     ("d_hidden", "0", "6"), ("rhos", "0.5", "0,1"), ("warmup", "0", "1")),
    "associative_memory": (("time", "1.0", "2"), ("num_inputs", "2", "3"), ("num_seeds", "1", "2"),
                           ("d_model", "0", "8"), ("batch_size", "0", "4"), ("step_size", "0.05")),
    "find_noise": (("test", "8"), ("validation", "8"), ("along", "0"), ("step", "-1", "60")),
    "truncate": (("num_sequences", "4", "8"), ("rhos", "0.5"), ("steps", "", "60", "0,60")),
    "phase_diagram": (("times", "3", "1,2"), ("max_inputs", "3", "4"), ("resolution", "2", "3"),
                      ("points", "1", "2"), ("step_size", "0.125", "0.5")),
    "sweep": (("steps", "2", "1,2"), ("eval_batch", "4", "2"), ("num_seeds", "1", "2"),
              ("alpha", "0.3", "0.3,0.5"), ("num_tokens", "5", "4,5"), ("d_hidden", "0", "6"),
              ("num_noise", "1", "2"), ("num_triggers", "1", "2"), ("warmup", "0"), ("zip", "")),
    "verify_theory": (("quick", "yes"), ("families", "chain")),
    "linearised": (("variants", "full", "linearised", "free:ff1"), ("steps", "1", "2"),
                   ("widths", "4"), ("learning_rates", "0.03"), ("eval_every", "1", "5")),
    "plateau": (("kinds", "drawn", "fair"), ("settling", "1", "3"), ("watched", "48", "50"),
                ("learning_rates", "0.03"), ("batch_sizes", "2", "4"), ("num_seeds", "1", "2")),
    "benchmark": (("quick", "yes"), ("rounds", "1"), ("length", "8"), ("d_model", "8"),
                  ("batch_size", "1"), ("probe_batch", "1")),
    "benchmark_search": (("num_prompts", "1", "2"), ("length", "1", "3"), ("rhos", "0.5", "0")),
    "fetch_model": (("offline", "yes"), ("steps", "0", "0,1", "512", "")),
    "truncate_model": (("rhos", "0.5"), ("bootstrap", "100"), ("search", "grid", "none"),
                       ("plan", "")),
    "model_dynamics": (("steps", "0", "0,1"), ("bootstrap", "100")),
    "fact_frequency": (("shared", "0", "0,0.3"), ("longest", "10.0", "20"), ("rhos", "0.5"),
                       ("bootstrap", "100"), ("search", "grid"), ("steps", "", "64")),
    "few_shot": (("shots", "0", "0,1"), ("new_tokens", "1", "3"), ("num_examples", "0", "2")),
    "benchmark_generation": (("num_layers", "1", "2"), ("new_tokens", "1", "4"), ("rounds", "1")),
    "train_word_problems": (("steps", "2", "1"), ("block_steps", "1", "2"),
                            ("record_problems", "2"), ("test_problems", "8", "9"),
                            ("warmup_steps", "0", "1"), ("batch_size", "1", "2")),
    "real_model": (("rhos", "0.5"), ("along", "0", "1"), ("samples", "100"), ("layer", "0", "1"),
                   ("moment_tokens", "256"), ("text_tokens", "256"), ("package", "smollm2")),
    "export_metrics": (("to", "csv"), ("project", "one")),
    "report": (("subjects", "memory", "memory,recall"), ("models", "")),
    "tasks": (("tasks", "sums", "sums,products", ""), ("shown", "0", "1")),
    "train_mini_pythia": (("steps", "2", "1"), ("block_steps", "1", "2"), ("record_prompts", "2"),
                          ("test_prompts", "2", "3"), ("num_people", "5", "30"),
                          ("warmup_steps", "0", "1"), ("batch_size", "1", "2")),
}  # fmt: skip
HUGE = {
    "noisy_recall": ("num_noise", "d_model", "length", "batch_size", "num_seeds", "final_batch"),
    "associative_memory": ("num_inputs", "d_model", "batch_size", "num_seeds"),
    "phase_diagram": ("max_inputs", "resolution"),
    "linearised": ("widths", "length", "batch_size", "eval_batch", "num_seeds"),
    "plateau": ("d_model", "length", "batch_sizes"),
    "truncate": ("num_sequences",),
    "sweep": ("num_seeds", "eval_batch"),
    "find_noise": ("validation", "test"),
    "benchmark": ("length", "d_model", "batch_size", "probe_batch"),
    "benchmark_search": ("num_prompts", "length"),
    "benchmark_generation": ("d_model", "d_ff", "vocab_size", "batch_size", "new_tokens"),
    "train_word_problems": ("d_model", "batch_size", "vocab_size"),
    "train_mini_pythia": ("d_model", "batch_size", "num_layers", "block_steps"),
}


def pins(tiny, inputs):
    """The tiny command and what else keeps runs small, by setting."""
    values = {}
    for argument in tiny.command(inputs, inputs)[:-1]:
        name, _, value = argument.removeprefix("--").partition("=")
        name = f"{name}_" if keyword.iskeyword(name) else name
        values[name] = (value or "yes",)
    values |= {name: choices for name, *choices in EXTRA[tiny.name]}
    return Pins({n: tuple(v) for n, v in values.items()}, HUGE.get(tiny.name, ()))


def run_all(commands):
    """How each [program, arguments] ended; a process that dies is replaced behind where it died."""
    # Some of the names drawn are relative: what is written there must not land among the sources.
    with tempfile.TemporaryDirectory() as here:
        return _run_all(commands, here)


def _run_all(commands, here):
    ended = []
    while len(ended) < len(commands):
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("fuzz.py")],
            input=json.dumps(commands[len(ended) :]), capture_output=True, text=True, check=False,
            cwd=here, env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        )  # fmt: skip
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        ended += [answer for answer in answers if "begun" not in answer]
        if not answers or "begun" in answers[-1]:
            assert answers, done.stderr[-3000:]
            crash = f"the process died with {done.returncode}: {done.stderr[-1000:]}"
            ended.append({"code": done.returncode, "out": "", "err": "", "silent": 0.0,
                          "crash": crash})  # fmt: skip
    return ended


def complaint(ended):
    """What is wrong with how a command ended; empty if nothing is."""
    if ended["crash"]:
        return ended["crash"][-1500:]
    if ended["silent"] > SILENT:
        return f"silent for {ended['silent']:.1f} s"
    errors = [line for line in ended["err"].splitlines() if line.startswith("error: ")]
    if "Traceback" in ended["err"]:
        return ended["err"][-1500:]
    if ended["code"] == 0:
        return f"exit 0 with {errors}" if errors else ""
    if ended["code"] not in (1, 2):
        return f"exit {ended['code']}"
    if len(errors) != 1 or not ended["err"].endswith(errors[0] + "\n"):
        return f"not one line: {ended['err'][-500:]!r}"
    return ""


def command_lines(name, inputs, count):
    """So many random command lines of a program, without --out."""
    program = importlib.import_module(f"truncated_weights.experiments.{name}.__main__").PROGRAM
    small, chance = pins(TINY[name], inputs), random.Random(f"flags {name}")
    return [[*draw(program.settings, small, chance), "--nocompilation_cache"] for _ in range(count)]


def require_told(commands, table):
    wrong = {}
    for (name, arguments), ended in zip(commands, run_all(commands), strict=True):
        out = Path(arguments[-1].removeprefix("--out="))
        problem = complaint(ended)
        if not problem and out.exists():
            try:
                require_strict(out)
            except ValueError as error:
                problem = str(error)
        if problem:
            wrong[" ".join([name, *arguments])] = problem
        told = "wrong" if problem else {0: "done"}.get(ended["code"], "one line")
        table(name, "random flags", told)
    assert not wrong, "\n\n".join(f"{k}\n{v}" for k, v in wrong.items())


def test_every_program_is_in_the_matrix():
    assert set(TINY) == {file.parent.name for file in ROOT.glob("experiments/*/__main__.py")}


@pytest.mark.thorough
def test_some_random_flags_of_every_program(finished, tmp_path, table):
    """Their inputs are not there, so that nothing can begin."""
    commands = [
        (name, [*line, f"--out={finished(name)}"])
        for name in TINY
        for line in command_lines(name, tmp_path / "absent", 8)
    ]
    require_told(commands, table)


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_random_flags(name, inputs, finished, tmp_path, table):
    commands = []
    for number, line in enumerate(command_lines(name, inputs, 200)):
        out = finished(name) if number % 10 else tmp_path / str(number)
        commands.append((name, [*line, f"--out={out}"]))
    require_told(commands, table)
