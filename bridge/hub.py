"""Checkpoints from the Hugging Face hub into a local cache, one training step at a time.

Only one weight set of a revision is fetched, the first in the preference of
bridge.formats.weight_sets. Whatever can go wrong ends in a HubError of one line that says what to
do. Nothing but this file and the program over it needs the network.
"""

import contextlib
import dataclasses
import fnmatch
import hashlib
import pathlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from truncated_weights.bridge.formats import companions, weight_sets
from truncated_weights.bridge.formats.stored import BLOCK_BYTES
from truncated_weights.truncation.files import regular, telling

# config.json and whatever the tokenizer may be made of.
COMMON = ("config.json", *companions.PATTERNS)
# File name or index -> patterns of the whole set, in the order of preference.
_SETS = {
    "model.safetensors.index.json": ("model.safetensors.index.json", "model-*.safetensors"),
    "pytorch_model.bin.index.json": ("pytorch_model.bin.index.json", "pytorch_model-*.bin"),
    "model.safetensors": ("model.safetensors",),
    "pytorch_model.bin": ("pytorch_model.bin",),
}
STEPS = (0, *(2**power for power in range(10)), *range(1000, 144_000, 1000))


class HubError(Exception):
    """Something could not be fetched; the message is one line that says what to do."""

    def __init__(self, what: object) -> None:
        super().__init__(telling.message(what))


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A revision in the local cache: its directory, the weight set to read, from_cache."""

    directory: pathlib.Path
    weights: str
    from_cache: bool


def step_revision(step: int) -> str:
    """The branch that holds a Pythia training step.

    Raises ValueError for a step that was never published: they are 0, the powers of two up
    to 512, and the multiples of 1,000 up to 143,000.
    """
    if step not in STEPS:
        raise ValueError(
            f"step {step} was not published; there are 0, 1, 2, 4, ..., 512 and then every "
            "1000 up to 143000"
        )
    return f"step{step}"


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise HubError(
            "fetching needs the huggingface_hub library: pip install huggingface_hub"
        ) from None
    return huggingface_hub


@contextlib.contextmanager
def _one_line(repo: str, revision: str) -> Iterator[None]:
    """Turn the client's errors into HubError; connection errors pass through."""
    errors = _library().errors
    where = f"{repo} at {revision}"
    try:
        yield
    except errors.GatedRepoError:
        raise HubError(
            f"{repo} is gated: accept its terms on its page on the hub, then set HF_TOKEN"
        ) from None
    except errors.RevisionNotFoundError:
        raise HubError(
            f"{repo} has no revision {revision!r}; look at its branches, or check the step"
        ) from None
    except errors.RepositoryNotFoundError:
        raise HubError(
            f"there is no model {repo!r} on the hub, or it is private: check the spelling, or "
            "set HF_TOKEN"
        ) from None
    except errors.HFValidationError:
        raise HubError(f"{repo!r} is not a model name; expected OWNER/NAME") from None
    except errors.HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", "an error")
        raise HubError(f"the hub answered {status} for {where}; try again later") from None


def _cached(repo: str, revision: str, cache: pathlib.Path | None, why: str) -> Fetched:
    """The first complete weight set of a revision that is in the cache already."""
    library = _library()
    for weights, patterns in _SETS.items():
        with contextlib.suppress(library.errors.LocalEntryNotFoundError):
            folder = pathlib.Path(
                library.snapshot_download(
                    repo,
                    revision=revision,
                    cache_dir=cache,
                    local_files_only=True,
                    allow_patterns=[*COMMON, *patterns],
                )
            )
            if not _missing(folder, weights):
                return Fetched(folder, weights, True)
    raise HubError(
        f"{why}, and {repo} at {revision} is not complete in the local cache; fetch it where "
        "there is a network, or load a directory of your own"
    )


def _missing(folder: pathlib.Path, weights: str) -> list[str]:
    """Names of the files without which the weight set cannot be loaded."""
    missing = [name for name in ("config.json", weights) if not (folder / name).is_file()]
    if not missing and weights.endswith(".index.json"):
        shards = weight_sets.shard_map(folder / weights)
        missing = sorted(name for name in shards if not (folder / name).is_file())
    return missing


def _preferred(
    repo: str, revision: str, endpoint: str | None, *, hashes: bool = False
) -> tuple[str, dict[str, Any]]:
    """The weight set of a revision that is read, and the hub's entries of all its files."""
    api = _library().HfApi(endpoint=endpoint)
    # Of the client's calls this one does not retry for half a minute when offline.
    found = api.model_info(repo, revision=revision, files_metadata=hashes).siblings or []
    files = {sibling.rfilename: sibling for sibling in found}
    weights = next((name for name in _SETS if name in files), None)
    if weights is None:
        raise HubError(
            f"{repo} at {revision} holds no weights this package reads; looked for "
            f"{', '.join(_SETS)}"
        )
    return weights, files


def published_hashes(
    repo: str, revision: str = "main", *, endpoint: str | None = None
) -> dict[str, str]:
    """sha256 by file name of the weights that `fetch` would take, as the hub states them.

    Nothing is downloaded. Files for which the hub states none (small ones that lie in the
    repository itself) are left out. Raises HubError, as fetch does, and where there is no
    network.
    """
    library = _library()
    try:
        with _one_line(repo, revision):
            weights, files = _preferred(repo, revision, endpoint, hashes=True)
    except (library.errors.HTTPError, ConnectionError, TimeoutError) as error:
        raise HubError(f"the hub cannot be reached ({type(error).__name__})") from None
    return {
        name: entry.lfs.sha256
        for name, entry in files.items()
        if entry.lfs is not None and any(fnmatch.fnmatch(name, p) for p in _SETS[weights])
    }


def shared_weights(
    repo: str, revisions: Sequence[str], *, endpoint: str | None = None
) -> list[tuple[str, tuple[str, ...]]]:
    """Weight files that these training steps share with each other or with main, as published.

    Asked before downloading: a step that holds another step's weights, or the final ones
    (86 single files of Pythia 2.8b do), is then known for what it is. The last step and main
    are the same model and may share. Raises HubError.
    """
    names = dict.fromkeys((*revisions, "main"))
    hashes = {name: published_hashes(repo, name, endpoint=endpoint) for name in names}
    same = {"main", step_revision(STEPS[-1])}
    return [(file, group) for file, group in identical_files(hashes) if not same.issuperset(group)]


def fetch(
    repo: str,
    revision: str = "main",
    *,
    cache: pathlib.Path | None = None,
    offline: bool = False,
    endpoint: str | None = None,
) -> Fetched:
    """A revision of a model repository, fetched unless it is in the cache.

    Without a network, or with offline, what is in the cache is used if it is complete.
    cache and endpoint are those of huggingface_hub unless given.

    Raises HubError if the repository or revision is not there, gated, holds no weights this
    package reads, could not be fetched whole, or is not in the cache while offline; and
    CheckpointError if an index of shards is damaged.
    """
    library = _library()
    if offline:
        with _one_line(repo, revision):
            return _cached(repo, revision, cache, "working offline")
    try:
        with _one_line(repo, revision):
            weights, _ = _preferred(repo, revision, endpoint)
            folder = pathlib.Path(
                library.snapshot_download(
                    repo,
                    revision=revision,
                    cache_dir=cache,
                    endpoint=endpoint,
                    allow_patterns=[*COMMON, *_SETS[weights]],
                )
            )
    # Transport errors (no route, refused, timed out) share the base of the client's own.
    except (library.errors.HTTPError, ConnectionError, TimeoutError) as error:
        kind = type(error).__name__
        return _cached(repo, revision, cache, f"the hub cannot be reached ({kind})")
    missing = _missing(folder, weights)
    if missing:
        raise HubError(f"{repo} at {revision} came without {telling.some(missing)}; fetch it again")
    return Fetched(folder, weights, False)


def content_hashes(fetched: Fetched) -> dict[str, str]:
    """sha256 of each weight file of a fetched set, by file name."""
    names: Collection[str] = [fetched.weights]
    if fetched.weights.endswith(".index.json"):
        names = sorted(weight_sets.shard_map(fetched.directory / fetched.weights))
    hashes = {}
    for name in names:
        digest = hashlib.sha256()
        try:
            with regular.opened(fetched.directory / name) as file:
                while block := file.read(BLOCK_BYTES):
                    digest.update(block)
        except OSError as error:
            raise HubError(f"{fetched.directory / name}: {error.strerror}") from None
        hashes[name] = digest.hexdigest()
    return hashes


def identical_files(
    hashes: Mapping[str, Mapping[str, str]],
) -> list[tuple[str, tuple[str, ...]]]:
    """(file name, revisions) for every weight file that several revisions share to the byte.

    hashes[revision][file name] is a sha256. Training changes every weight, so a shared file
    means that one revision holds another's weights; step 0 and step 1 of some sizes do.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for revision, files in hashes.items():
        for name, digest in files.items():
            groups.setdefault(digest, []).append((name, revision))
    return [
        (group[0][0], tuple(revision for _, revision in group))
        for group in groups.values()
        if len(group) > 1
    ]
