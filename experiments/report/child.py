"""One program as a process of the report that ends with it.

    python -m experiments.report.child NAME --FLAG=VALUE ...

A report that is killed cannot tell its program to stop. On Linux the kernel does, before the
report's next start meets a directory that is still in use; elsewhere the program runs to its end.
"""

import contextlib
import ctypes
import runpy
import signal
import sys

DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h


def main() -> None:
    """Become the program."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
    name = sys.argv[1]
    sys.argv = [name, *sys.argv[2:]]
    runpy.run_module(f"truncated_weights.experiments.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
