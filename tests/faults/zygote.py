"""Start programs without paying for their imports: a process that has imported, and forks.

Most of the seconds of a tiny run go into importing JAX, and a fault matrix starts hundreds of
them. This process imports the libraries, none of this project and no JAX device, and then forks
for every request: the child is a real process with its own signals, files and exit code, and runs
`python -m MODULE ARGUMENTS` from its first line to the interpreter's own end.

Reads one JSON object per line, answers with one:

    {"module": M, "arguments": [...], "out": FILE, "err": FILE, "environment": {...}} -> {"pid": P}
                  FILE may be null (the descriptor is closed) or "gone" (a pipe without a reader);
                  a variable that is null is unset
    {"wait": P, "seconds": S} -> {"code": C}   C as in subprocess; null when S have passed
"""

import importlib
import json
import os
import runpy
import signal
import sys
import time
import warnings

RUNNING = set()


# What reads its settings as it is imported, and is left to the child where those are the question.
LATE = ("matplotlib.figure",)


def import_libraries(late=False):
    names = ("absl.flags", "jax.numpy", "numpy", "optax", "orbax.checkpoint", "scipy.optimize",
             "tqdm", "flax.nnx", *(() if late else LATE))  # fmt: skip
    return [importlib.import_module(name) for name in names]


def become(request):
    """What `python -m` would do, in this process; returns when the program's last line has run."""
    os.setsid()
    for number, name in ((1, "out"), (2, "err")):
        if request[name] == "gone":
            reader, file = os.pipe()
            os.close(reader)
        else:
            file = os.open(request[name] or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    surround(request["environment"])
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.argv = [request["module"], *request["arguments"]]
    for number, name in ((1, "out"), (2, "err")):
        if request[name] is None:
            os.close(number)
            setattr(sys, "stdout" if number == 1 else "stderr", None)
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def surround(environment):
    """Set variables, also for libraries that have read theirs already."""
    import jax

    for name, value in environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    if "JAX_PLATFORMS" in environment:
        jax.config.update("jax_platforms", environment["JAX_PLATFORMS"])
    if "JAX_ENABLE_X64" in environment:
        jax.config.update("jax_enable_x64", environment["JAX_ENABLE_X64"] == "1")


def wait(pid, seconds):
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            RUNNING.discard(pid)
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.005)


def serve():
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = {"code": wait(request["wait"], request["seconds"])}
        else:
            with warnings.catch_warnings(action="ignore"):  # JAX has started no thread yet
                pid = os.fork()
            if pid == 0:
                return request
            RUNNING.add(pid)
            answer = {"pid": pid}
        print(json.dumps(answer), file=answers, flush=True)
    for pid in RUNNING:  # whoever asked is gone
        os.kill(pid, signal.SIGKILL)
    return None


if __name__ == "__main__":
    imported = import_libraries(late="late" in sys.argv[1:])
    if (asked := serve()) is not None:
        # Not a callee of serve(): the program's own exit is the interpreter's.
        become(asked)
