"""Several processes that work on one run: how they find each other, and who refuses them.

Started by Slurm, Open MPI or Kubernetes, JAX finds the others by itself; elsewhere the flags say
where process 0 is reached, how many there are, and which one this is:

    python -m experiments.sweep --coordinator=node0:1234 --processes=2 --process=0
    python -m experiments.sweep --coordinator=node0:1234 --processes=2 --process=1

All see the same --out on a shared file system; only process 0 writes there and talks. Each has a
line open to process 0, whose only message is that it breaks: when a process dies, the kernel
closes its line, and the others end with one sentence instead of waiting for it. The same command,
in all of them, then continues.
"""

import contextlib
import dataclasses
import os
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

from truncated_weights.experiments.run import progress, stop
from truncated_weights.experiments.run.processes import meeting
from truncated_weights.training.settings import Settings, setting

# Seconds without a sign of life after which JAX counts a process as dead.
PATIENCE = 30
# Where launchers say how many tasks the step has that this process is one of.
_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
GONE = "another process of this run has gone; the same command, in all, continues"
# What a process says that ends by itself: the others have their own reason to, or follow.
_BYE = b"x"

_lines: list[socket.socket] = []
_finished = threading.Event()


@dataclasses.dataclass(frozen=True)
class Processes(Settings):
    """Which processes work on one run."""

    processes: int = setting(
        0, "Processes of this run; 0 means as many as the launcher started.", lower=0, upper=65_536
    )
    process: int = setting(
        -1, "Which one this is, from 0; -1 means the launcher knows.", lower=-1, upper=65_535
    )
    coordinator: str = setting(
        "", "HOST:PORT at which process 0 is reached; empty means the launcher knows."
    )
    meeting_time: int = setting(
        120, "Seconds within which all processes find each other, or end.", lower=1, upper=86_400
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.coordinator) != (self.process >= 0):
            raise ValueError("--coordinator and --process go together")
        if self.coordinator and not self.process < self.processes:
            raise ValueError(
                f"--process={self.process} is not one of --processes={self.processes}, from 0"
            )


def number(config: Processes, environment: Mapping[str, str] = os.environ) -> int:
    """How many processes there are, by flag or launcher."""
    if config.processes:
        return config.processes
    counts = [environment[name] for name in _COUNTS if environment.get(name, "").isdigit()]
    return int(counts[0]) if counts else 1


def refusal(config: Processes, program: str) -> str:
    """What a program for one process says when it is one of several; empty if it is alone."""
    count = number(config)
    if count == 1:
        return ""
    return (
        f"{program} works in one process and this is one of {count}; start one task, or let "
        f"each work alone with --processes=1 and an --out of its own"
    )


def join(config: Processes) -> None:
    """Find the other processes, before JAX has looked for devices; nothing where there are none.

    Raises ValueError where they cannot be found.
    """
    count = number(config)
    if count == 1:
        return
    # One sentence of ours tells that a process has gone, not the diaries of three libraries.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import jax

    from truncated_weights.training import processes

    if config.coordinator:
        meeting.meet(
            config.coordinator, count=count, number=config.process, limit=config.meeting_time
        )
    try:
        jax.distributed.initialize(
            coordinator_address=config.coordinator or None,
            num_processes=config.processes or None,
            process_id=config.process if config.process >= 0 else None,
            heartbeat_timeout_seconds=PATIENCE,
            initialization_timeout=config.meeting_time,
        )
        count, first = jax.process_count(), processes.first()
        listening = socket.create_server(("", 0)) if first else None
        port = listening.getsockname()[1] if listening else 0
        here = config.coordinator.rpartition(":")[0] or socket.gethostname()
        host, _, told = processes.tell(f"{here}:{port}").rpartition(":")
        if listening:
            listening.settimeout(PATIENCE)
            _lines.extend(listening.accept()[0] for _ in range(count - 1))
        else:
            _lines.append(socket.create_connection((host, int(told)), timeout=PATIENCE))
            _lines[0].settimeout(None)
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(
            f"the {count} processes of this run did not find each other: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    for line in _lines:
        threading.Thread(target=_listen, args=(line,), daemon=True).start()
    stop.before_leaving(_say_goodbye)
    if not first:
        progress.mute()


def require_alike(program: str, config: Any) -> None:
    """ValueError, the same in all, where a process differs in settings, code or devices."""
    if _lines:
        # Imported here: it asks JAX, which most programs have not imported yet.
        from truncated_weights.experiments.run.processes import alike

        alike.require_alike(program, config)


def finish() -> None:
    """Wait until every process has come to its end, so that none is missed by the others."""
    if _lines:
        import jax

        _finished.set()
        jax.distributed.shutdown()


def is_loss(error: BaseException) -> bool:
    """Whether an error says that another process of the run has gone."""
    signs = ("gloo", "connection closed by peer", "connection reset", "heartbeat", "coordination")
    return bool(_lines) and any(sign in str(error).lower() for sign in signs)


def _listen(line: socket.socket) -> None:
    try:
        said = line.recv(1)
    except OSError:
        said = b""
    if said == _BYE:
        # It failed or was stopped and said why. What stopped it may be stopping this one too,
        # which then has its own last line to say.
        time.sleep(2 * stop.GRACE)
    if not _finished.is_set():
        stop.tell(f"error: {GONE}")
        os._exit(1)


def _say_goodbye() -> None:
    for line in _lines:
        with contextlib.suppress(OSError):
            line.sendall(_BYE)


def use_all_cores() -> None:
    """Let JAX see one CPU device per core that this process may use, before it looks for devices.

    A small run alone keeps one core busy and a second one a third of the time, because its
    products are small; runs side by side on a device per core keep all of them busy. Nothing where
    the environment says how many (JAX_NUM_CPU_DEVICES), or where JAX has looked already.
    Accelerators are not affected.
    """
    import jax

    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
