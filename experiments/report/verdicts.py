"""Judge the claims: what holds, what fails, what was not run, and from what."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from truncated_weights.experiments.report.execute import Done
from truncated_weights.experiments.report.reading import Found
from truncated_weights.experiments.run.claim import Claim, Judged, MissingError, Subject

HOLDS, FAILS, NOT_RUN = "holds", "fails", "not run"
# Everything is on the side that is claimed, and one seed cannot tell whether clearly.
ONE_SEED = "one seed"
WORDS = (HOLDS, FAILS, ONE_SEED, NOT_RUN)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A claim, what was found, and what follows.

    reason: why it was not run, or fails though its checks hold. broken: the run is finished and yet
    does not hold what the claim reads, which is a fault of the report and not of the claim.
    """

    subject: str
    claim: Claim
    verdict: str
    checks: tuple[Judged, ...] = ()
    reason: str = ""
    broken: bool = False


def judge(
    subjects: Mapping[str, Subject], done: Mapping[str, Done], found: Mapping[str, Found]
) -> list[Verdict]:
    """A verdict for every claim, in the order of the page."""
    verdicts = []
    for key, subject in subjects.items():
        for claim in subject.claims:
            if claim.run not in found:
                verdicts.append(Verdict(key, claim, NOT_RUN, reason=done[claim.run].reason))
                continue
            try:
                checks = tuple(check.judge(found[claim.run]) for check in claim.checks)
            except MissingError as error:
                reason = f"not run: {claim.run} holds no {error}"
                verdicts.append(Verdict(key, claim, NOT_RUN, reason=reason, broken=True))
                continue
            word, reason = HOLDS, ""
            if not all(check.holds for check in checks):
                word = FAILS
            elif told := claim.lost(found[claim.run].summary):
                word, reason = FAILS, f"fails: {told}"
            elif any(check.one_seed for check in checks):
                word = ONE_SEED
            verdicts.append(Verdict(key, claim, word, checks, reason))
    return verdicts


def summarise(verdicts: list[Verdict]) -> dict[str, Any]:
    """The flat dictionary of summary.json."""
    summary: dict[str, Any] = {
        "claims": len(verdicts),
        "holds": sum(one.verdict == HOLDS for one in verdicts),
        "fails": sum(one.verdict == FAILS for one in verdicts),
        "one_seed": sum(one.verdict == ONE_SEED for one in verdicts),
        "not_run": sum(one.verdict == NOT_RUN for one in verdicts),
        "broken": sum(one.broken for one in verdicts),
    }
    for one in verdicts:
        summary[f"{one.claim.name}/verdict"] = one.verdict
        for check in one.checks:
            summary[f"{one.claim.name}/{check.what}"] = check.measured
    return summary
