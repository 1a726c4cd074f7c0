"""What every program shares: the way from the command line to the body, and how failures are told.

A program is a folder experiments/NAME with settings (a frozen dataclass), a __main__.py of a few
lines, and experiment.py whose main(config, place) does the work. Only then is
JAX imported, so that --help answers at once. Whatever a user can cause ends in one line on stderr:

    2    a bad flag, an impossible combination, or an output directory that cannot be used
    1    the run itself failed: values stopped being finite, the disk is full, a check failed
    130  interrupted; the line says what the same command would continue from
"""

import ast
import contextlib
import dataclasses
import errno
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truncated_weights.experiments.run import progress, stop, streams
from truncated_weights.training import settings
from truncated_weights.training.settings import Settings, setting
from truncated_weights.truncation.files import regular, room, telling

if TYPE_CHECKING:
    from absl.flags import FlagValues

    from truncated_weights.experiments.run.study import Study


class UserError(Exception):
    """Something the user asked for cannot be done; the message is the one line they see."""

    exit_code = 2


class RunFailedError(UserError):
    """The run started and could not be finished; the message says what was kept."""

    exit_code = 1


@dataclasses.dataclass(frozen=True)
class Shared(Settings):
    """The settings that every program has: where results go, not what they are."""

    out: str = setting("", "Directory of this run.")
    overwrite: bool = setting(False, "Replace a finished or different run of this program.")
    redraw: bool = setting(
        False,
        "Only redraw the figures of the finished run in --out; of other flags, those that are "
        "about drawing alone are obeyed.",
    )
    compilation_cache: bool = setting(
        True, "Keep compiled functions in the user's cache directory for the next run."
    )


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a program leaves its results, and under which name it owns them."""

    program: str
    out: str
    overwrite: bool = False


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn a library's ValueError about its arguments into the one line of a UserError."""
    try:
        yield
    except (ValueError, FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise UserError(one_line(error)) from error


@dataclasses.dataclass(frozen=True)
class Program:
    """The program experiments/NAME with its settings; doc is what its help says first.

    study: gives the study, whose imports take long. processes: whether several processes may work
    on one run; otherwise they are refused.
    """

    name: str
    settings: type[Settings]
    doc: str | None
    study: "Callable[[], Study] | None" = None
    processes: bool = False

    def start(self) -> None:
        """Be this program: parse the command line, do the work, leave with an exit code."""
        streams.speak_utf8()
        streams.settle()
        stop.listen()
        progress.heartbeat()
        stop.farewell(self.run(sys.argv[1:]))

    def run(self, arguments: Sequence[str]) -> int:
        """The whole program in this process; returns the exit code."""
        _quieten()
        return guarded(lambda: _body(self, arguments))


def programs() -> dict[str, str]:
    """Every program by name, with the first line of what it says about itself."""
    found = {}
    for file in sorted(Path(__file__).parents[1].glob("*/__main__.py")):
        doc = ast.get_docstring(ast.parse(file.read_bytes())) or ""
        found[file.parent.name] = doc.partition("\n")[0]
    return found


_undo: list[Callable[[], None]] = []
_reasons: list[Callable[[], str]] = []


def reason_of_failure(tell: Callable[[], str]) -> None:
    """Have tell() asked when anything fails from now on: its line, if any, is what is told."""
    _reasons.append(tell)


def _reason() -> str:
    return next(filter(None, (tell() for tell in _reasons)), "")


def undo_on_failure(action: Callable[[], None]) -> None:
    """Have action called if the program fails from now on, before the failure is told."""
    _undo.append(action)


def guarded(main: Callable[[], int | None]) -> int:
    """Call main and turn what a user can cause into one line and an exit code."""
    _undo.clear()
    _reasons.clear()
    try:
        with _undone_on_failure():
            return main() or 0
    except UserError as error:
        # What a library could not find may be all of the run's own directory.
        told = _reason()
        _complain(told or one_line(error))
        return RunFailedError.exit_code if told else error.exit_code
    except FloatingPointError as error:
        # truncation.finite.NotFiniteError: NaN or infinity is never a figure.
        _complain(one_line(error))
        return RunFailedError.exit_code
    except (stop.Interrupted, KeyboardInterrupt):
        stop.leave()
        raise
    except Exception as error:
        if told := _reason():
            _complain(told)
            return 1
        if isinstance(error, OSError) and error.errno in NO_PATH:
            # Any of the many flags that name a file may be the first to be looked at.
            _complain(f"{str(error.filename)[:100]}: {error.strerror}")
            return UserError.exit_code
        if isinstance(error, regular.UnreadableError | room.TooLargeError):
            _complain(one_line(error))
            return UserError.exit_code
        from truncated_weights.experiments.run import processes

        if processes.is_loss(error):
            _complain(processes.GONE)
            return 1
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            _complain("out of memory; lower a batch, a width or the number of seeds")
            return 1
        if (refused := disk_refusal(error)) is None:
            raise
        _complain(f"{refused}; what was written before is intact")
        return 1


@contextlib.contextmanager
def _undone_on_failure() -> Iterator[None]:
    try:
        yield
    except BaseException:
        for action in reversed(_undo):
            # What failed may be the disk itself; the failure to tell is the first one.
            with contextlib.suppress(OSError, ValueError):
                action()
        raise


def _body(program: Program, arguments: Sequence[str]) -> int | None:
    # Imported here: a Ctrl-C in the first moments then meets the handlers of stop.listen().
    from absl import flags as absl_flags

    from truncated_weights.experiments.run import flags, processes

    name, config_type = program.name, program.settings
    defaults = {"out": f"runs/{name}"}
    presets = flags.presets(Path(__file__).parents[1] / name)
    if flags.is_help(arguments):
        groups: dict[str, type[Settings]] = {
            "settings": config_type,
            "in every program": Shared,
            "several processes": processes.Processes,
        }
        print(
            flags.usage(name, program.doc or "", groups, defaults, presets=tuple(presets)), end=""
        )
        return 0
    values = flags.Values()
    flags.define(config_type, values)
    flags.define(Shared, values, defaults)
    flags.define(processes.Processes, values)
    try:
        rest = values([name, *flags.with_presets(arguments, presets)])
        if rest[1:]:
            raise ValueError(f"unexpected argument {rest[1]!r}; flags begin with --")
        shared = flags.read(Shared, values)
        among = flags.read(processes.Processes, values)
        config = None if shared.redraw else flags.read(config_type, values)
    except (absl_flags.Error, ValueError, OSError) as error:
        raise UserError(one_line(error)) from error
    if not shared.out.strip():
        raise UserError("--out is empty; name a directory for this run")
    if shared.redraw and shared.overwrite:
        raise UserError("--redraw and --overwrite exclude each other")
    if shared.compilation_cache:
        _keep_compilations()
    if not program.processes and (told := processes.refusal(among, name)):
        raise UserError(told)
    # Figures go to files, whatever a notebook around this process wants them to appear in.
    os.environ["MPLBACKEND"] = "Agg"
    progress.stage("starting JAX")
    with user_errors():
        processes.join(among)
    if program.processes:
        processes.use_all_cores()
    _require_device()
    with user_errors():
        processes.require_alike(name, config)
    if program.study is not None:
        from truncated_weights.experiments.run import study

        found = program.study()
        if config is None:
            study.redraw(found, shared.out, **_drawing(program, values, shared.out))
            return None
        code = study.run(found, config, Place(name, shared.out, shared.overwrite))
        processes.finish()
        return code
    experiment = importlib.import_module(f"truncated_weights.experiments.{name}.experiment")
    if config is None:
        return experiment.redraw(shared.out, **_drawing(program, values, shared.out))
    code = experiment.main(config, Place(name, shared.out, shared.overwrite))
    processes.finish()
    return code


def _drawing(program: Program, values: "FlagValues", out: str) -> dict[str, Any]:
    """The settings given for drawing a finished run again, by name.

    UserError for any other flag that is given and is not what the run had: it would be dropped.
    """
    from truncated_weights.experiments.run import flags
    from truncated_weights.experiments.run.directory import settings_of

    fields = {field.name: field for field in dataclasses.fields(program.settings)}
    found: dict[str, Any] = {}
    for name, field in fields.items():
        flag = values[flags.name_of(field)]
        if not flag.present:
            continue
        value = flag.value
        if settings.rule(field).drawing:
            found[name] = value
            continue
        had = getattr(settings_of(out, program.name, program.settings), name)
        if had != value:
            raise UserError(
                f"--redraw only draws: the run in {out} has --{flags.name_of(field)}="
                f"{flags.text_of(had)}, not {flags.text_of(value)}; leave the flag out or run anew"
            )
    return found


def _require_device() -> None:
    """Start JAX; UserError in one line where it finds nothing to compute on."""
    try:
        import jax

        jax.devices()
    except Exception as error:  # of every kind, and of one kind without a word
        asked = os.environ.get("JAX_PLATFORMS", "")
        where = f" (JAX_PLATFORMS={asked})" if asked else ""
        told = one_line(error)[:300] or "no device of that kind is here"
        raise UserError(f"JAX does not start{where}: {told}") from error


def _quieten() -> None:
    # Neither deprecations inside libraries nor the checkpointer's diary are for a user at a
    # terminal to act on; what fails there is raised too, and told in one line.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message=".*compilation cache.*")
    # Names in figures are of any script; a sign that the font lacks is drawn as a box.
    warnings.filterwarnings("ignore", message="Glyph .* missing from")
    import logging

    logging.getLogger("absl").setLevel(logging.CRITICAL)
    # What a user's own matplotlibrc has wrong, or a home that is not there, no figure depends on.
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)
    # Of a damaged checkpoint several arrays fail to be read; the first is raised and told, and
    # asyncio logs a traceback of each of the others.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    # After a failed read or write the checkpointer's threads call back an event loop that is
    # closed, and say so through this hook; the failure itself is raised, and told in one line.
    sys.unraisablehook = _told_elsewhere


def _told_elsewhere(found: "sys.UnraisableHookArgs") -> None:
    if not (found.exc_type is RuntimeError and str(found.exc_value) == "Event loop is closed"):
        sys.__unraisablehook__(found)


def _keep_compilations() -> None:
    """Let JAX keep what it compiles; JAX reads these when it is imported, and fails silently."""
    caches = os.environ.get("XDG_CACHE_HOME", "")
    if not caches:
        if os.environ.get("HOME") == "":  # which would be the root of all
            return
        try:
            caches = str(Path.home() / ".cache")
        except RuntimeError:  # a user without a home
            return
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(caches) / "truncated-weights"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


# A text that cannot be the name of any file: longer than a name may be, or links in a circle; or
# where a pipe stands in the place of one.
NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO)
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)


def disk_refusal(error: BaseException) -> str | None:
    """The line to tell where the disk refused a write, or None for any other error.

    Libraries in other languages wrap the system's error in one of their own, whose text alone
    still says what happened.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in REFUSALS:
            return one_line(seen)
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            text = str(seen)
            if f"os error {number}" in text or os.strerror(number) in text:
                return os.strerror(number)
        seen = seen.__cause__ or seen.__context__
    return None


def one_line(error: BaseException) -> str:
    """The message of an error on one line, without anything that a terminal obeys."""
    return telling.line(error)


def note(message: str) -> None:
    """One line beside the results, for what a user may want to know."""
    print(f"note: {telling.line(message)}", file=sys.stderr)


def _complain(message: str) -> None:
    print(f"error: {telling.line(message)}", file=sys.stderr)
