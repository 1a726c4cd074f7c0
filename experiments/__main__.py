"""The programs, each with the question it answers.

    python -m experiments                      # all of them
    python -m experiments noisy_recall --help  # one, as python -m experiments.noisy_recall --help

Installed, the same is `truncated-weights noisy_recall`.
"""

import runpy
import sys
import textwrap

from truncated_weights.experiments.run import streams, table
from truncated_weights.experiments.run.program import programs

PACKAGE = (__package__ or "experiments").removesuffix(".")


def main() -> int | None:
    """Start the program that is named first, or list them all; 2 where there is none so called."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    found = programs()
    if name in found:
        del sys.argv[1]
        runpy.run_module(f"{PACKAGE}.{name}", run_name="__main__", alter_sys=True)
        return None
    streams.speak_utf8()
    streams.settle()
    if name and name not in ("--help", "-h", "help"):
        print(f"error: no program {name!r}; without a name all are listed", file=sys.stderr)
        return 2
    longest = max(map(len, found))
    for program, question in found.items():
        print(
            textwrap.fill(
                question,
                table.width(),
                initial_indent=f"  {program:<{longest}}  ",
                subsequent_indent=" " * (longest + 4),
            )
        )
    print("\nNAME --help tells more, without --help it runs")
    return None


if __name__ == "__main__":
    sys.exit(main())
