"""Gradients at weights that are all one number, where a compiler reads what nobody has written."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMPILER = shutil.which("cc")


@pytest.mark.thorough
@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or COMPILER is None, reason="needs glibc and a C compiler"
)
def test_the_first_step_holds_where_unwritten_memory_is_nan(tmp_path):
    # XLA's YNNPACK kernels read it when weights are constants: this family then had, now and
    # then, rows that were not a number. Weights that are arguments are read as they are.
    library = tmp_path / "unwritten.so"
    source = HERE / "unwritten.c"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O2", source, "-o", library], check=True)
    command = ["-m", "experiments.verify_theory", "--quick", "--families=first,attention"]
    done = subprocess.run(
        [sys.executable, *command, f"--out={tmp_path / 'run'}"],
        env=os.environ | {"LD_PRELOAD": str(library)},
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed" in done.stdout
