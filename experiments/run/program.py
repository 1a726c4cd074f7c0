"""What every program shares: entry point, flag errors, and how failures are told.

A program defines typed absl flags, builds a frozen dataclass in main, and passes it to a
pure run(config). Whatever the user can cause ends in one line on stderr and a non-zero exit:

    2  a bad flag, an impossible combination, or an output directory that cannot be used
    1  the run itself failed: values stopped being finite, the disk is full, a check failed
    130  interrupted; the same command continues the run
"""

import contextlib
import dataclasses
import errno
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from absl import app, flags, logging

Config = TypeVar("Config")


class UserError(Exception):
    """Something the user asked for cannot be done; the message is the one line they see."""

    exit_code = 2


class RunFailedError(UserError):
    """The run started and could not be finished; the message says what was kept."""

    exit_code = 1


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn a library's ValueError about its arguments into the one line of a UserError."""
    try:
        yield
    except (ValueError, FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise UserError(_one_line(error)) from error


def config_from_flags(config_type: type[Config]) -> Config:
    """The frozen dataclass whose every field is the flag of the same name."""
    fields = dataclasses.fields(config_type)  # type: ignore[arg-type]
    values = {field.name: flags.FLAGS[field.name].value for field in fields}
    return config_type(
        **{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    )


def define_output_flags(default: str) -> None:
    """--out and --overwrite, the same in every program."""
    flags.DEFINE_string("out", f"runs/{default}", "Directory of this run.")
    flags.DEFINE_bool("overwrite", False, "Replace a finished or different run in --out.")


def run(main: Callable[[], int | None]) -> None:
    """Parse flags, call main, and turn failures into one line and an exit code."""
    app.run(lambda _: sys.exit(_guarded(main)), flags_parser=_parse)


def _parse(argv: Sequence[str]) -> Sequence[str]:
    # Neither deprecations inside libraries nor the checkpointer's diary are for a user at a
    # terminal to act on; what fails there is raised too, and told in one line below.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.set_verbosity(logging.FATAL)
    try:
        rest = flags.FLAGS(list(argv))
        if rest[1:]:
            raise flags.Error(f"unexpected argument {rest[1]!r}; flags begin with --")
    except flags.Error as error:
        _complain(_one_line(error))
        sys.exit(UserError.exit_code)
    return rest


def _guarded(main: Callable[[], int | None]) -> int:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with contextlib.suppress(ValueError):  # only the main thread may set handlers
        signal.signal(signal.SIGTERM, interrupt)
    try:
        return main() or 0
    except UserError as error:
        _complain(_one_line(error))
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted; the same command continues from the last checkpoint")
        return 130
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        _complain(f"{_one_line(error)}; what was written before is intact")
        return 1


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _complain(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
