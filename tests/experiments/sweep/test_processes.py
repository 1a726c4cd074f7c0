"""Several real processes on one sweep: the same table, one line when one is killed, continued."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

TINY = [
    "--num_tokens=5", "--length=12", "--d_model=8", "--batch_size=4", "--feed_forward=linear",
    "--interventions=0.fc_in@0", "--alpha=0.3,0.5", "--learning_rate=0.03,0.1",
    "--num_seeds=2", "--eval_batch=8",
]  # fmt: skip
SHORT = ["--steps=12"]


def free_port():
    with socket.socket() as opened:
        opened.bind(("localhost", 0))
        return opened.getsockname()[1]


def start(out, *arguments, devices, cache):
    environment = {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.sweep", *TINY, f"--out={out}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def two(out, *arguments, cache):
    port = free_port()
    return [
        start(
            out,
            *arguments,
            f"--coordinator=localhost:{port}",
            "--processes=2",
            f"--process={index}",
            devices=4,
            cache=cache,
        )
        for index in range(2)
    ]


def table(out):
    with (out / "sweep.csv").open() as opened:
        return list(csv.DictReader(opened))


def alike(one, other):
    assert len(one) == len(other) == 8
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for name, value in left.items():
            if value and right[name]:
                assert float(value) == pytest.approx(float(right[name]), rel=2e-3, abs=1e-5), name
            else:
                assert value == right[name], name


@pytest.mark.slow
def test_two_processes_make_the_table_of_one(tmp_path):
    alone = start(tmp_path / "one", *SHORT, devices=8, cache=tmp_path / "cache")
    _, err = alone.communicate(timeout=300)
    assert alone.returncode == 0, err
    both = two(tmp_path / "two", *SHORT, cache=tmp_path / "cache")
    ends = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    # Process 0 talks and writes; the other is silent, but for what the transport prints.
    assert "8 runs" in ends[0][0]
    told, err = ends[1]
    assert [line for line in told.splitlines() if not line.startswith("[Gloo]")] == []
    assert err == ""
    alike(table(tmp_path / "one"), table(tmp_path / "two"))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_kill_ends_the_other_and_the_same_command_continues(tmp_path, victim):
    long = ["--steps=3000", "--checkpoint_every=100", "--eval_every=1000"]
    out = tmp_path / "run"
    both = two(out, *long, cache=tmp_path / "cache")
    deadline = time.monotonic() + 240
    while not [
        p for p in out.glob("checkpoints/group0.states/*") if p.name.isdigit() and int(p.name) > 99
    ]:
        assert time.monotonic() < deadline, "no checkpoint came"
        assert all(process.poll() is None for process in both), [p.communicate() for p in both]
        time.sleep(0.05)
    both[victim].send_signal(signal.SIGKILL)
    survivor = both[1 - victim]
    _, err = survivor.communicate(timeout=120)
    both[victim].communicate()
    assert survivor.returncode == 1, err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert errors == [
        "error: another process of this run has gone; the same command, in all, continues"
    ], err
    assert "Traceback" not in err
    again = two(out, *long, cache=tmp_path / "cache")
    ends = [process.communicate(timeout=300) for process in again]
    assert [process.returncode for process in again] == [0, 0], ends
    whole = two(tmp_path / "whole", *long, cache=tmp_path / "cache")
    for process in whole:
        process.communicate(timeout=300)
    assert table(out) == table(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.fault("C7")
def test_a_second_process_of_a_number_is_refused_and_the_sweep_goes_on(tmp_path):
    """While the sweep runs, its two command lines are given once more."""
    port, out, cache = free_port(), tmp_path / "run", tmp_path / "cache"
    flags = ["--steps=600", f"--coordinator=localhost:{port}", "--processes=2"]
    both = [
        start(out, *flags, f"--process={number}", devices=2, cache=cache) for number in range(2)
    ]
    deadline = time.monotonic() + 240
    while not (out / "config.json").exists():
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in both), [p.communicate() for p in both]
        time.sleep(0.05)
    for number in (1, 0):
        late = start(out, *flags, f"--process={number}", devices=2, cache=cache)
        _, err = late.communicate(timeout=120)
        assert late.returncode == 2
        (error,) = [line for line in err.splitlines() if line.startswith("error: ")]
        assert "a run is under way already" in error
        assert "Traceback" not in err
    ends = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert "8 runs" in ends[0][0]


@pytest.mark.slow
@pytest.mark.fault("A13")
def test_processes_with_other_settings_are_refused_in_all_of_them(tmp_path):
    port, out = free_port(), tmp_path / "run"
    flags = [*SHORT, f"--coordinator=localhost:{port}", "--processes=2"]
    both = [
        start(out, *flags, f"--process={number}", f"--weight_decay={number}e-3", devices=2,
              cache=tmp_path / "cache")
        for number in range(2)
    ]  # fmt: skip
    for process in both:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 2
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert errors == [
            "error: process 1 differs from process 0 in --weight_decay; give all of them the same"
        ]
    assert not out.exists()


def test_flags_that_do_not_go_together_and_programs_for_one_process():
    """Told in one line before any library is imported."""
    cases = [
        ("sweep", ["--process=1"], {}, "--coordinator and --process go together"),
        ("sweep", ["--coordinator=a:1", "--process=2", "--processes=2"], {}, "--process=2 is not"),
        ("noisy_recall", ["--processes=2"], {}, "noisy_recall works in one process and this is"),
        ("tasks", [], {"SLURM_STEP_NUM_TASKS": "4"}, "this is one of 4"),
        ("truncate", [], {"OMPI_COMM_WORLD_SIZE": "3"}, "this is one of 3"),
    ]
    for program, arguments, environment, message in cases:
        done = subprocess.run(
            [sys.executable, "-m", f"experiments.{program}", *arguments],
            capture_output=True, text=True, check=False, env=os.environ | environment,
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
