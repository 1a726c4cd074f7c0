"""Run programs as processes, disturb them, and say whether anything was lost."""

import dataclasses
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.faults.programs import ROOT, Tiny

# Generous, because the machine may be busy: what never ends is what these catch.
PATIENCE = 300.0


@dataclasses.dataclass
class Process:
    """A program that was started; code is None while it runs."""

    house: "House"
    pid: int
    out: Path
    err: Path
    code: int | None = None

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """The exit code as in subprocess (-9 for a kill), or None after so many seconds."""
        if self.code is None:
            self.code = self.house.ask({"wait": self.pid, "seconds": seconds})["code"]
        return self.code

    def send(self, number: int) -> bool:
        """Send a signal; False if the process had ended before."""
        if self.wait(0) is not None:
            return False
        os.kill(self.pid, number)
        return True

    @property
    def said(self) -> str:
        return self.err.read_text()

    @property
    def printed(self) -> str:
        return self.out.read_text()


class House:
    """Starts processes by forking one that has imported the libraries; see zygote.py.

    late: without those that read the environment as they are imported.
    """

    def __init__(self, scratch: Path, *, late: bool = False):
        self.scratch = scratch
        self._number = itertools.count()
        self._lock = threading.Lock()
        self._zygote = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("zygote.py"), *(["late"] if late else [])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        )  # fmt: skip

    def ask(self, request):
        with self._lock:
            print(json.dumps(request), file=self._zygote.stdin, flush=True)
            return json.loads(self._zygote.stdout.readline())

    def start(
        self,
        module: str,
        arguments: list[str],
        output: str | None = "file",
        **environment: str | None,
    ) -> Process:
        """Begin a program; its output goes to files, or output is None (closed) or "gone"."""
        base = self.scratch / f"process{next(self._number)}"
        out, err = base.with_suffix(".out"), base.with_suffix(".err")
        for file in (out, err):
            file.touch()
        names = [str(out), str(err)] if output == "file" else [output, output]
        request = {"module": module, "arguments": list(map(str, arguments)), "out": names[0],
                   "err": names[1], "environment": environment}  # fmt: skip
        return Process(self, self.ask(request)["pid"], out, err)

    def run(self, tiny: Tiny, inputs: Path, out: Path, *more: str, **how: str | None) -> Process:
        """Run a program to its end."""
        process = self.start(tiny.module, [*tiny.command(inputs, out), *more], **how)
        assert process.wait() is not None, f"{tiny.name} did not end in {PATIENCE:g} s"
        return process

    def must(self, module: str, arguments: list[str]) -> None:
        """Run a program that is no part of the question."""
        process = self.start(module, arguments)
        assert process.wait() == 0, process.said

    def close(self) -> None:
        self._zygote.stdin.close()
        self._zygote.wait()
        self._zygote.stdout.close()


# "step 8/60  loss 1.67", "finishing: 9 s so far", "note: ... is damaged; ...", "error: ..."
PLAIN = re.compile(r"error: |note: |[\w ,.:-]+\d+/\d+|[\w ,/-]+: \d+ s so far")


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file below a folder; links by where they lead."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def refused(process: Process, codes: tuple[int, ...] = (1, 2)) -> str:
    """The one line of a refusal; asserts that there is one, and no traceback."""
    said = process.said
    assert "Traceback" not in said, said[-3000:]
    assert process.code in codes, (process.code, said[-2000:])
    require_plain(said)
    last = said.splitlines()[-1] if said else ""
    assert last.startswith("error: "), said[-2000:]
    assert said.count("error: ") == 1, said[-2000:]
    return last


def require_plain(said: str) -> None:
    """Nothing but lines of progress and the one line of an error."""
    for line in said.splitlines():
        assert PLAIN.match(line), f"a line no user can act on: {line[:300]}"


def equal_or_refused(process: Process, tiny: Tiny, out: Path, expected) -> str:
    """After a disturbance: 'held' where the result is the undisturbed one, 'refused' otherwise."""
    if process.code == 0:
        assert "Traceback" not in process.said, process.said[-3000:]
        require_plain(process.said)
        assert tiny.summary(out) == expected, f"{tiny.name} ended with another result"
        return "held"
    refused(process)
    return "refused"


def until(condition, seconds: float = PATIENCE) -> bool:
    """Whether a condition came true within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
