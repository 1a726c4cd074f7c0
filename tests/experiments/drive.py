"""Run one program many times in one process: starting JAX takes longer than most checks.

Reads from stdin a JSON list of argument lists; prints one list of {code, out, err}.
"""

import contextlib
import importlib
import io
import json
import sys


def capture(function):
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = function()
        except SystemExit as stop:
            code = stop.code or 0
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def drive(name):
    program = importlib.import_module(f"{name}.__main__").PROGRAM
    results = [capture(lambda: program.run(given)) for given in json.load(sys.stdin)]  # noqa: B023
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    drive(sys.argv[1])
