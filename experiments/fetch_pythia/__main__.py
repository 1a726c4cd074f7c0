r"""Fetch Pythia checkpoints, final or of chosen training steps, and check them.

    python -m experiments.fetch_pythia --model=EleutherAI/pythia-410m --steps=0,512,143000

Each revision goes into the hub's local cache (--cache=DIR for another place), is checked to
hold exactly the tensors its configuration asks for, and is linked as OUT/NAME/stepN, the
directory to give to the other programs. Weight files that two steps share to the byte are
reported, because published steps exist that hold another step's weights. Without --steps
the main branch is fetched. With --offline, or with no network, only the cache is used.

The time is that of the network: 70m is 166 MB a step, 410m 911 MB, 12b 24 GB. With
everything in the cache, hashing runs at about 1 GB/s.
"""

import dataclasses
import os
import pathlib
import sys
import time

from absl import flags

from bridge import checkpoint, hub
from bridge.errors import CheckpointError
from experiments.run import program
from experiments.run.directory import RunDirectory, open_run
from experiments.run.progress import Progress

flags.DEFINE_string("model", "EleutherAI/pythia-70m", "Model repository on the hub, OWNER/NAME.")
flags.DEFINE_list("steps", [], "Training steps, as in 0,512,143000; empty for the main branch.")
flags.DEFINE_string("cache", "", "Directory of the cache; empty for the hub client's own.")
flags.DEFINE_bool("offline", False, "Use only what is in the cache.")
program.define_output_flags("fetch_pythia")


@dataclasses.dataclass(frozen=True)
class Config:
    """One run of this program; the fields are its flags."""

    model: str
    steps: tuple[str, ...]
    cache: str
    offline: bool
    out: str
    overwrite: bool


def revisions(config: Config) -> list[str]:
    """The branches to fetch; UserError for a step that is no number or was never published."""
    if config.model.count("/") != 1 or not all(config.model.split("/")):
        raise program.UserError(f"--model={config.model} is not of the form OWNER/NAME")
    if not config.steps:
        return ["main"]
    names = []
    for text in config.steps:
        if not text.strip().isdecimal():
            raise program.UserError(f"--steps: {text!r} is not a step number")
        with program.user_errors():
            names.append(hub.step_revision(int(text)))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise program.UserError(f"--steps: {', '.join(twice)} given twice")
    return names


def _link(link: pathlib.Path, target: pathlib.Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.symlink_to(target.absolute(), target_is_directory=True)
    temporary.replace(link)


def _fetch_one(config: Config, revision: str) -> tuple[hub.Fetched, dict[str, str]]:
    """Fetch, check structure, hash; RunFailedError says which revision failed and why."""
    cache = pathlib.Path(config.cache) if config.cache else None
    try:
        fetched = hub.fetch(config.model, revision, cache=cache, offline=config.offline)
        checkpoint.check(fetched.directory, weights=fetched.weights)
    except (hub.HubError, CheckpointError) as error:
        raise program.RunFailedError(str(error)) from error
    return fetched, hub.content_hashes(fetched)


def run(config: Config) -> dict[str, object]:
    """Fetch every revision and return the summary that was written."""
    names = revisions(config)
    directory: RunDirectory = open_run(config.out, config, overwrite=config.overwrite)
    directory.rewrite_metrics([])
    summary: dict[str, object] = {}
    hashes: dict[str, dict[str, str]] = {}
    progress = Progress(len(names), label="revision")
    for index, revision in enumerate(names):
        start = time.monotonic()
        fetched, hashes[revision] = _fetch_one(config, revision)
        place = directory.path / config.model.split("/")[1] / revision
        _link(place, fetched.directory)
        size = sum((fetched.directory / name).stat().st_size for name in hashes[revision])
        seconds = time.monotonic() - start
        directory.append_metrics({"revision": revision, "bytes": size, "seconds": seconds})
        summary |= {
            f"{revision}/directory": str(place),
            f"{revision}/weights": fetched.weights,
            f"{revision}/bytes": size,
            f"{revision}/from_cache": fetched.from_cache,
            **{f"{revision}/sha256/{name}": digest for name, digest in hashes[revision].items()},
        }
        progress.update(index + 1, gigabytes=size / 1e9)
    progress.close()
    shared = hub.identical_files(hashes)
    summary["identical_files"] = len(shared)
    summary |= {
        f"identical/{number}": f"{name}: {' = '.join(group)}"
        for number, (name, group) in enumerate(shared)
    }
    directory.finish(summary)
    for revision in names:
        print(f"{revision}: {summary[f'{revision}/directory']}")
    for name, group in shared:
        print(f"identical to the byte: {name} of {' = '.join(group)}")
    return summary


def main() -> None:
    """Read the flags and run."""
    if not sys.stderr.isatty():
        # The hub client draws its bars wherever it runs; plain lines are ours to print.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    run(program.config_from_flags(Config))


if __name__ == "__main__":
    program.run_flags(main)
