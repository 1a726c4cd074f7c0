"""Stands in for a program: writes a finished run at once, without JAX, or fails as told.

    python stand_in.py PROGRAM --FLAG=VALUE ... --out=DIR [--overwrite]

STAND_IN names what goes wrong, by the name of the directory: fails=NAME, hangs=NAME. Each call
adds its arguments to calls.txt beside the directory.
"""

import importlib
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from absl import flags as absl_flags

from truncated_weights.experiments.run import flags
from truncated_weights.experiments.run.program import Shared


def main():
    name, *arguments = sys.argv[1:]
    program = importlib.import_module(f"truncated_weights.experiments.{name}.__main__").PROGRAM
    values = absl_flags.FlagValues()
    flags.define(program.settings, values)
    flags.define(Shared, values)
    values([name, *arguments])
    out = Path(values["out"].value)
    out.mkdir(parents=True, exist_ok=True)
    with (out.parent / "calls.txt").open("a") as calls:
        print(out.name, "again" if values["overwrite"].value else "", file=calls)
    wrong = dict(part.split("=") for part in os.environ.get("STAND_IN", "").split())
    settings = asdict(flags.read(program.settings, values))
    (out / "config.json").write_text(json.dumps({"program": name, "flags": settings}))
    if wrong.get("hangs") == out.name:
        time.sleep(60)
    if wrong.get("fails") == out.name:
        sys.exit("step 3/9\nerror: the disk is full; what was written before is intact")
    summary = {"full/p_noise": 0.3, "largest_logit_error": 0.001}
    (out / "summary.json").write_text(json.dumps(summary))


main()
