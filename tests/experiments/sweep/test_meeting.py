"""Processes meet in time, each number once, and do the same; threads stand for processes."""

import dataclasses
import socket
import threading
import time

import numpy as np
import pytest

from truncated_weights.experiments.run.processes import alike, meeting
from truncated_weights.experiments.sweep.settings import SETTINGS


def free_port():
    with socket.socket() as opened:
        opened.bind(("localhost", 0))
        return opened.getsockname()[1]


def come(port, number, count, limit=10.0):
    """Come to the meeting in a thread of its own; what it ended with, in a list."""
    ended = []

    def body():
        try:
            meeting.meet(f"localhost:{port}", count=count, number=number, limit=limit)
            ended.append("met")
        except ValueError as error:
            ended.append(str(error))

    thread = threading.Thread(target=body)
    thread.start()
    return thread, ended


def connected(port):
    """A line to who listens there, as soon as somebody does."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("localhost", port))
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def ends(*came):
    for thread, _ in came:
        thread.join(20)
        assert not thread.is_alive()
    return [ended[0] for _, ended in came]


@pytest.mark.fault("C6")
def test_all_meet_whoever_comes_first():
    port = free_port()
    # The limit of the others runs while there is no process 0 yet.
    others = [come(port, number, 3) for number in (2, 1)]
    time.sleep(0.3)
    assert ends(come(port, 0, 3), *others) == ["met"] * 3


@pytest.mark.fault("C6")
def test_who_does_not_come_in_time_is_named():
    port = free_port()
    zero, one = come(port, 0, 3, limit=0.6), come(port, 1, 3, limit=1.2)
    told, other = ends(zero, one)
    assert told == "of 3 processes number 2 did not come within 0.6 seconds (--meeting_time)"
    assert other == (
        f"process 0 or another did not come to localhost:{port} within 1.2 seconds (--meeting_time)"
    )
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        meeting.meet("node0", count=2, number=1, limit=1.0)


@pytest.mark.fault("C7")
def test_a_number_is_taken_once_and_free_again_when_its_process_goes():
    port = free_port()
    zero = come(port, 0, 3)
    with connected(port) as gone:
        gone.sendall(b"truncated-weights 1 3\n")
        time.sleep(0.3)
        assert ends(come(port, 1, 3)) == ["another process of this run is --process=1 already"]
        assert ends(come(port, 1, 2)) == ["process 0 was started with --processes=3, not 2"]
    # Strangers, who say nothing or something else, disturb nobody.
    with connected(port) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\n")
    assert ends(come(port, 1, 3), come(port, 2, 3), zero) == ["met"] * 3


@pytest.mark.fault("C7")
@pytest.mark.parametrize("said", [b"\0\0\x12\x04\0\0\0\0\0\0", b"go away\n"])
def test_what_runs_there_already_is_left_alone(said):
    """JAX answers with a frame of its protocol, before anything is asked."""
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]

        def answer():
            line, _ = server.accept()
            with line:
                line.sendall(said)
                time.sleep(0.2)

        thread = threading.Thread(target=answer)
        thread.start()
        (told,) = ends(come(port, 1, 2, limit=3.0))
        thread.join()
        assert "a run is under way already" in told
        assert ends(come(port, 0, 2, limit=3.0)) == [
            f"at port {port} of this host a run is under way already, or something else is; "
            "nothing of it was touched"
        ]


@pytest.fixture
def beside(monkeypatch):
    """beside(config, **more) compares a process with another that has these settings."""

    def compare(mine, theirs, **other):
        told = [alike.told_of("sweep", mine), alike.told_of("sweep", theirs) | other]

        def gathered(values):
            names = alike.PARTS if len(values) == len(alike.PARTS) else told[0]["the settings"]
            rows = [[one[n] for n in names] if names is alike.PARTS
                    else list(one["the settings"].values()) for one in told]  # fmt: skip
            return np.array([[alike.digest(value) for value in row] for row in rows])

        monkeypatch.setattr(alike, "_gathered", gathered)
        alike.require_alike("sweep", mine)

    return compare


@pytest.mark.fault("A13")
def test_what_differs_is_named(beside):
    config = SETTINGS(alpha=(0.3, 0.5))
    beside(config, config)
    with pytest.raises(ValueError, match="process 1 differs from process 0 in --alpha; give all"):
        beside(config, dataclasses.replace(config, alpha=(0.1, 0.9)))
    with pytest.raises(ValueError, match=r"in --alpha, --num_seeds;|in --num_seeds, --alpha;"):
        beside(config, dataclasses.replace(config, alpha=(0.1, 0.9), num_seeds=3))
    for part in ("the code", "the versions of packages", "the devices"):
        with pytest.raises(ValueError, match=f"process 1 differs from process 0 in {part};"):
            beside(config, config, **{part: "other"})


@pytest.mark.fault("A13")
def test_code_is_its_sources(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.py").write_text("x = 1\n")
    before = alike._of_sources(tmp_path)
    (tmp_path / "a.pyc").write_bytes(b"compiled")
    assert alike._of_sources(tmp_path) == before
    (tmp_path / "inner" / "a.py").write_text("x = 2\n")
    assert alike._of_sources(tmp_path) != before
    told = alike.told_of("sweep", SETTINGS())["the code"]
    assert set(told) == set(alike.FOLDERS)
    assert len(set(told.values())) == len(alike.FOLDERS)
