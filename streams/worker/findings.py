"""What a check found: one line each, what is so and how to mend it."""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

Verdict = Literal["ok", "warning", "error"]


class Finding(Struct, frozen=True, omit_defaults=True):
    """One thing checked. `mend` says what to do; empty where nothing is to be done.

    A worker runs with a warning, at a risk the text names; with an error it does not start, or loses something.
    """

    subject: str
    verdict: Verdict
    what: str
    mend: str = ""

    @property
    def line(self) -> str:
        """For the eye, in one line."""
        return f"{self.verdict:<8}{self.subject}: {self.what}{f' -> {self.mend}' if self.mend else ''}"


def failed(findings: Iterable[Finding]) -> bool:
    """Whether there is an error among them: a program's exit code."""
    return any(finding.verdict == "error" for finding in findings)
