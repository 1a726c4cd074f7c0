"""How far a run is: a bar on a terminal, plain lines elsewhere, and never ten silent seconds.

A compilation or one long computation gives no chance to print. A thread prints for it: whatever
was last said to be going on, and for how long.
"""

import sys
import threading
import time
from typing import Any

from truncated_weights.experiments.run import streams
from truncated_weights.truncation.files import telling

# Seconds without a line after which one is due; a step that is done may tell a little earlier,
# because it has more to say.
QUIET = 8.0
EARLIER = 6.0


class _Voice:
    """When something was last printed, and what is going on; one per process."""

    def __init__(self) -> None:
        self.spoke = self.since = time.monotonic()
        self.doing = "starting"
        self.bar: Any = None
        self.mute = False

    def say(self, line: str) -> None:
        self.spoke = time.monotonic()
        if self.mute:
            return
        print(telling.shown(line), file=sys.stderr, flush=True)

    def silence(self) -> float:
        return time.monotonic() - self.spoke


_voice = _Voice()


def stage(doing: str) -> None:
    """From here on this is going on, as "reading weights"; told only if it takes long."""
    _voice.doing, _voice.since = doing, time.monotonic()


def mute() -> None:
    """Say nothing from now on: another process of the run does."""
    _voice.mute = True


def heartbeat() -> None:
    """Start the thread that breaks long silences."""
    threading.Thread(target=_beat, daemon=True).start()


def _beat() -> None:
    while True:
        time.sleep(0.5)
        break_silence()


def say(line: str) -> None:
    """Print one line beside the progress."""
    _voice.say(line)


def break_silence() -> bool:
    """Print what is going on if nothing was printed for QUIET seconds; whether it did."""
    if _voice.silence() < QUIET:
        return False
    if _voice.bar is not None:
        _voice.bar.refresh()
        _voice.spoke = time.monotonic()
    else:
        _voice.say(f"{_voice.doing}: {time.monotonic() - _voice.since:.0f} s so far")
    return True


class Progress:
    """Tell how far a run is; costs nothing but the text it prints."""

    def __init__(self, total: int, *, start: int = 0, label: str = "step"):
        """total and start are in units of `label`; start is where a continued run begins."""
        self._total, self._start, self._label = total, start, label
        self._began = time.monotonic()
        self._next_line = 0.1
        self._figures: dict[str, float] = {}
        self._bar = None
        stage(f"{label} {start}/{total}, compiling or computing")
        if sys.stderr.isatty() and not _voice.mute:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, initial=start, unit=telling.shown(label), dynamic_ncols=True,
                file=streams.raw(sys.stderr),
            )  # fmt: skip
            _voice.bar = self._bar

    def update(self, step: int, **figures: float) -> None:
        """Show this step and these figures."""
        self._figures = figures
        self._show(step, due=step >= self._total or step / max(self._total, 1) >= self._next_line)

    def tick(self, step: int) -> None:
        """The run has come to this step, with nothing new to say about it."""
        self._show(step, due=False)

    def part(self, start: int, each: int) -> "Part":
        """The progress of one part, which begins at `start` and of which a step counts `each`."""
        return Part(self, start, each)

    def skip(self, steps: int) -> None:
        """So many more steps were done by an earlier run: they count, but not for the rate."""
        self._start += steps

    def close(self) -> None:
        """End the bar."""
        stage("finishing")
        if self._bar is not None:
            self._bar.close()
            _voice.bar = None

    def _show(self, step: int, *, due: bool) -> None:
        stage(f"{self._label} {step}/{self._total} reached, going on")
        if self._bar is not None:
            told = {telling.shown(key): f"{value:.4g}" for key, value in self._figures.items()}
            self._bar.set_postfix(told, refresh=False)
            self._bar.update(step - self._bar.n)
            _voice.spoke = time.monotonic()
            return
        if not due and _voice.silence() < EARLIER:
            return
        self._next_line = step / max(self._total, 1) + 0.1
        told_here = [f"{key} {value:.4g}" for key, value in self._figures.items()]
        line = [f"{self._label} {step}/{self._total}", *told_here, self._rate(step)]
        _voice.say("  ".join(part for part in line if part))

    def _rate(self, step: int) -> str:
        done, seconds = step - self._start, max(time.monotonic() - self._began, 1e-9)
        if done <= 0:
            return ""
        left = seconds / done * (self._total - step)
        told = f", {_duration(left)} left" if left >= 1 else ""
        if done >= seconds:
            return f"{done / seconds:.1f} {self._label}/s{told}"
        return f"{seconds / done:.1f} s/{self._label}{told}"


class Part:
    """One of several trainings that share a Progress."""

    def __init__(self, whole: Progress, start: int, each: int):
        self._whole, self._start, self._each = whole, start, each

    def skip(self, steps: int) -> None:
        """So many steps of this part were done before: they count, but not for the rate."""
        self._whole.skip(self._each * steps)
        self.tick(steps)

    def update(self, step: int, **figures: float) -> None:
        """Show that the part has come to this step, with these figures."""
        self._whole.update(self._start + self._each * step, **figures)

    def tick(self, step: int) -> None:
        """The part has come to this step, with nothing new to say."""
        self._whole.tick(self._start + self._each * step)

    def close(self) -> None:
        """End the whole."""
        self._whole.close()


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
