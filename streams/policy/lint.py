"""Lint: every mistake and every oddity of a policy file, each with file, line and field."""

from typing import Literal

from msgspec import Struct

from streams.policy.advice import advice
from streams.policy.loader import Loaded, PolicyError, dotted, load_file


class Remark(Struct, frozen=True):
    """`error`: the policy is refused wherever it is loaded; `advice`: it runs, but hardly means this."""

    severity: Literal["error", "advice"]
    file: str
    line: int
    field: str
    message: str

    @property
    def text(self) -> str:
        field = f"{self.field}: " if self.field else ""
        return f"{self.file}:{self.line}: {field}{self.message}"


def lint(name_or_path: str) -> tuple[Loaded | None, list[Remark]]:
    """The policy, None where it has mistakes, and what there is to say of it, in the order of the file.

    Raises:
        PolicyError: there is no such file.
    """
    try:
        loaded = load_file(name_or_path)
    except PolicyError as error:
        if not error.flaws:
            raise
        return None, [Remark("error", name_or_path, flaw.line, dotted(flaw.path), flaw.what) for flaw in error.flaws]
    remarks = [
        Remark("advice", name_or_path, loaded.line_of(path), dotted(path), what) for path, what in advice(loaded.policy)
    ]
    return loaded, sorted(remarks, key=lambda remark: (remark.line, remark.field))
