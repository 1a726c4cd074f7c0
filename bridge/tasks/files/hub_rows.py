"""Data sets of the hub by name, where there is a network: hub:OWNER/NAME/CONFIG/SPLIT.

The hub keeps a Parquet copy of every public data set on a branch of its own, one folder per
configuration and split: "hub:openai/gsm8k/main/test". What was fetched once is in the cache of
huggingface_hub and is found there without a network.
"""

import pathlib

from truncated_weights.bridge.tasks.example import TaskError

PREFIX = "hub:"
REVISION = "refs/convert/parquet"


def fetch(text: str) -> list[pathlib.Path]:
    """The Parquet files of a split, in their order, fetched unless they are in the cache.

    Raises TaskError where the text is no such name, huggingface_hub is not there, or the files
    are neither on the hub nor in the cache.
    """
    repo, config, split = _parts(text)
    try:
        import huggingface_hub
    except ImportError:
        raise TaskError(
            f"{text}: fetching needs the huggingface_hub library: pip install huggingface_hub"
        ) from None
    errors = huggingface_hub.errors
    try:
        folder = huggingface_hub.snapshot_download(
            repo,
            repo_type="dataset",
            revision=REVISION,
            allow_patterns=[f"{config}/{split}/*.parquet"],
        )
    except errors.LocalEntryNotFoundError:
        raise TaskError(
            f"{text}: the hub cannot be reached and the files are not in the cache; give a file"
        ) from None
    except (errors.HfHubHTTPError, errors.HFValidationError) as error:
        first = str(error).strip().partition("\n")[0]
        raise TaskError(f"{text}: not to be had from the hub ({first})") from None
    except (ConnectionError, TimeoutError) as error:
        raise TaskError(f"{text}: the hub cannot be reached ({type(error).__name__})") from None
    files = sorted((pathlib.Path(folder) / config / split).glob("*.parquet"))
    if not files:
        raise TaskError(f"{text}: the hub's copy has no {split!r} of a configuration {config!r}")
    return files


def _parts(text: str) -> tuple[str, str, str]:
    parts = text.removeprefix(PREFIX).split("/")
    if not text.startswith(PREFIX) or len(parts) != 4 or not all(parts):
        raise TaskError(f"{text}: expected hub:OWNER/NAME/CONFIG/SPLIT")
    return "/".join(parts[:2]), parts[2], parts[3]
