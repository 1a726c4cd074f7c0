"""A check as a picture: the values that would do as a band, the one measured as a mark on it."""

import math

from truncated_weights.experiments.run.claim import Judged

WIDTH, HEIGHT, MARGIN = 240.0, 30.0, 8.0


def strip(check: Judged) -> str:
    """Inline SVG; empty where what is compared is a text."""
    if isinstance(check.measured, str) or not math.isfinite(check.measured):
        return ""
    low, high = scale(check)

    def place(value: float) -> float:
        inside = (min(max(value, low), high) - low) / (high - low)
        return MARGIN + (WIDTH - 2 * MARGIN) * inside

    left, right = place(check.low), place(check.high)
    here, middle = place(check.measured), HEIGHT / 2
    marks = [
        f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{middle}" y2="{middle}" class="axis"/>',
        f'<rect x="{left:.1f}" y="{middle - 7}" width="{max(right - left, 2.0):.1f}" height="14" '
        'rx="2" class="band"/>',
    ]
    if check.error > 0:
        reach = 1.96 * check.error
        left, right = place(check.measured - reach), place(check.measured + reach)
        marks.append(
            f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{middle}" y2="{middle}" class="error"/>'
        )
    word = "holds" if check.holds else "fails"
    marks.append(f'<circle cx="{here:.1f}" cy="{middle}" r="5" class="mark {word}"/>')
    # The same stands in words beside it, so that a screen reader may pass it over.
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" class="strip" aria-hidden="true" '
        f'focusable="false">{"".join(marks)}</svg>'
    )


def scale(check: Judged) -> tuple[float, float]:
    """Ends of the axis: the finite bounds and the mark with its error, and some air."""
    measured = float(check.measured)
    seen = [measured - 1.96 * check.error, measured + 1.96 * check.error]
    seen += [bound for bound in (check.low, check.high) if math.isfinite(bound)]
    low, high = min(seen), max(seen)
    # One bound that is met to the digit still needs a scale.
    air = 0.35 * (high - low) or max(0.1 * abs(low), 0.1)
    return low - air, high + air
