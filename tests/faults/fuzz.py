"""Run programs for many command lines in one process, and tell how each ended.

Reads from stdin a JSON list of [program, argument list]. Writes a line {"begun": N} before each
and after it {code, out, err, silent, crash}: silent is the longest pause between two writes in
seconds of this process's own work, crash the traceback of an exception that reached the top. A
process that dies in the midst leaves the number it had begun.
"""

import contextlib
import importlib
import io
import json
import signal
import sys
import time
import traceback

from truncated_weights.experiments.run import progress

HANGS = 240


class Watched(io.StringIO):
    """Text written, and the longest pause before a write, on the clock of this process."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def write(self, text):
        self.clock.tick()
        return super().write(text)


CORES = 2


class Clock:
    """Wall time, or half the processor time if that is less: a busy machine is no silence.

    On two idle cores nothing takes less wall time than half its processor time.
    """

    def __init__(self):
        self.longest, self.last = 0.0, self.now()

    def now(self):
        return time.monotonic(), time.process_time() / CORES

    def tick(self):
        now = self.now()
        self.longest = max(self.longest, min(b - a for a, b in zip(self.last, now, strict=True)))
        self.last = now


def stuck(*_):
    raise TimeoutError(f"still running after {HANGS} s")


def once(program, arguments):
    clock = Clock()
    out, err = Watched(clock), Watched(clock)
    code, crash = None, ""
    signal.alarm(HANGS)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = program.run(arguments)
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            crash = traceback.format_exc()
    signal.alarm(0)
    clock.tick()
    return {"code": code, "out": out.getvalue(), "err": err.getvalue(), "silent": clock.longest,
            "crash": crash}  # fmt: skip


def main():
    signal.signal(signal.SIGALRM, stuck)
    # As every program has it from its start.
    progress.heartbeat()
    answers = sys.stdout
    for number, (name, arguments) in enumerate(json.load(sys.stdin)):
        program = importlib.import_module(f"truncated_weights.experiments.{name}.__main__").PROGRAM
        print(json.dumps({"begun": number}), file=answers, flush=True)
        print(json.dumps(once(program, arguments)), file=answers, flush=True)


if __name__ == "__main__":
    main()
