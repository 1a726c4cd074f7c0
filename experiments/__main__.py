"""The programs, each with the question it answers.

python -m experiments
"""

import textwrap

from experiments.run import streams, table
from experiments.run.program import programs

if __name__ == "__main__":
    streams.speak_utf8()
    streams.settle()
    found = programs()
    longest = max(map(len, found))
    for name, question in found.items():
        print(
            textwrap.fill(
                question,
                table.width(),
                initial_indent=f"  {name:<{longest}}  ",
                subsequent_indent=" " * (longest + 4),
            )
        )
    print("\npython -m experiments.NAME --help tells more, without --help it runs")
