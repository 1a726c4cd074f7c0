"""Fetch revisions of a model, check them, and link them where the other programs find them."""

import os
import pathlib
import secrets
import sys
import time

from bridge import checkpoint, hub
from bridge.errors import CheckpointError
from experiments.fetch_model.settings import FetchModel
from experiments.run import program, stop
from experiments.run.directory import RunDirectory, open_run
from experiments.run.program import Place
from experiments.run.progress import Progress


def main(config: FetchModel, place: Place) -> None:
    """Settings in, links to checked checkpoints out."""
    if not sys.stderr.isatty():
        # The hub client draws its bars wherever it runs; plain lines are ours to print.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    names = revisions(config)
    run(config, names, open_run(place, config, inputs={"cache": config.cache}))


def redraw(out: str) -> None:
    """There is nothing to draw here."""
    raise program.UserError(f"--redraw: fetch_model draws no figures ({out})")


def revisions(config: FetchModel) -> list[str]:
    """The branches to fetch; UserError for a step that was never published."""
    if config.model.count("/") != 1 or not all(config.model.split("/")):
        raise program.UserError(f"--model={config.model} is not of the form OWNER/NAME")
    if not config.steps:
        return ["main"]
    with program.user_errors():
        return [hub.step_revision(step) for step in config.steps]


def _link(link: pathlib.Path, target: pathlib.Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{secrets.token_hex(8)}")
    temporary.symlink_to(target.absolute(), target_is_directory=True)
    temporary.replace(link)


def _fetch_one(config: FetchModel, revision: str) -> tuple[hub.Fetched, dict[str, str]]:
    """Fetch, check structure, hash; RunFailedError says which revision failed and why."""
    cache = pathlib.Path(config.cache) if config.cache else None
    try:
        fetched = hub.fetch(config.model, revision, cache=cache, offline=config.offline)
        checkpoint.check(fetched.directory, weights=fetched.weights, ignore=config.ignore_keys)
    except (hub.HubError, CheckpointError) as error:
        raise program.RunFailedError(str(error)) from error
    return fetched, hub.content_hashes(fetched)


def _published_twice(config: FetchModel, names: list[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Weights that steps share by the hub's own hashes, before any of them is downloaded."""
    if config.offline or not config.steps:
        return []
    try:
        return hub.shared_weights(config.model, names)
    except hub.HubError:
        # What is wrong with the hub or the revision is said where it is fetched.
        return []


def run(config: FetchModel, names: list[str], directory: RunDirectory) -> dict[str, object]:
    """Fetch every revision and return the summary that was written."""
    directory.rewrite_metrics([])
    summary: dict[str, object] = {}
    hashes: dict[str, dict[str, str]] = {}
    for name, group in _published_twice(config, names):
        print(f"published twice, one of them wrong: {name} of {' = '.join(group)}")
    progress = Progress(len(names), label="revision")
    for index, revision in enumerate(names):
        stop.check()
        start = time.monotonic()
        fetched, hashes[revision] = _fetch_one(config, revision)
        place = directory.own(f"{config.model.split('/')[1]}/{revision}", link=True)
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
