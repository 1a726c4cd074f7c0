r"""Fetch a model from the hub, its training steps where it has them (Pythia), and check it.

    python -m experiments.fetch_model --model=EleutherAI/pythia-410m --steps=0,512,143000

Each revision goes into the hub's local cache (--cache=DIR for another place), is checked to
hold exactly the tensors its configuration asks for, and is linked as OUT/NAME/stepN, the
directory to give to the other programs. Weight files that two steps share to the byte are
reported, because published steps exist that hold another step's weights. Without --steps
the main branch is fetched. With --offline, or with no network, only the cache is used.

The time is that of the network: 70m is 166 MB a step, 410m 911 MB, 12b 24 GB. With
everything in the cache, hashing runs at about 1 GB/s.
"""

from typing import Any

from truncated_weights.experiments.fetch_model.settings import FetchModel
from truncated_weights.experiments.run.program import Program


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.fetch_model.measure import STUDY

    return STUDY


PROGRAM = Program("fetch_model", FetchModel, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
