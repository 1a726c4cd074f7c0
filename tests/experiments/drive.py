"""Run one program many times in one process: starting JAX takes longer than most checks.

Reads from stdin a JSON list of argument lists; prints one list of {code, out, err}.
"""

import contextlib
import importlib
import io
import json
import sys

from absl.testing import flagsaver

from experiments.run import program


def capture(function):
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = function()
        except SystemExit as stop:
            code = stop.code or 0
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def drive(name):
    module = importlib.import_module(f"{name}.__main__")
    results = []
    if hasattr(module, "PROGRAM"):
        for arguments in json.load(sys.stdin):
            results.append(capture(lambda: module.PROGRAM.run(arguments)))  # noqa: B023
    else:
        module.define_flags()
        for arguments in json.load(sys.stdin):
            saved = flagsaver.save_flag_values()
            sys.argv = [f"{name}.py", *arguments]
            results.append(capture(lambda: program.run_flags(module.main)))
            flagsaver.restore_flag_values(saved)
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    drive(sys.argv[1])
