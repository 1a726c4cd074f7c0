"""Progress with step, loss and rate: a bar on a terminal, plain lines elsewhere."""

import sys
import time

from tqdm import tqdm


class Progress:
    """Tell how far a run is; costs nothing but the text it prints."""

    def __init__(self, total: int, *, start: int = 0, label: str = "step"):
        """total and start are in steps; start is where a continued run begins."""
        self._total, self._start, self._label = total, start, label
        self._began = time.monotonic()
        self._next_line = 0.1
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=start, unit=label, dynamic_ncols=True)

    def update(self, step: int, **figures: float) -> None:
        """Show this step and these figures."""
        if self._bar is not None:
            self._bar.set_postfix({k: f"{v:.4g}" for k, v in figures.items()}, refresh=False)
            self._bar.update(step - self._bar.n)
            return
        if step < self._total and step / max(self._total, 1) < self._next_line:
            return
        self._next_line = step / max(self._total, 1) + 0.1
        rate = (step - self._start) / max(time.monotonic() - self._began, 1e-9)
        told = "  ".join(f"{k} {v:.4g}" for k, v in figures.items())
        print(
            f"{self._label} {step}/{self._total}  {told}  {rate:.1f} {self._label}/s",
            file=sys.stderr,
            flush=True,
        )

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
