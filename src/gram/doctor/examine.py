"""Goes through the checks. Whatever a model does, each check ends with a line, and the doctor with a result.

Knows how checks fail; knows nothing of what they look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from gram.doctor.checks import CHECKS, Check
from gram.doctor.facts import Facts
from gram.doctor.finding import Finding, Level, error, skipped, warning
from gram.doctor.once import Unknown, listening
from gram.doctor.options import DoctorOptions
from gram.errors import ConfigError, GramError
from gram.modeling.quiet import quiet_libraries
from gram.scoring.remote.address import is_elsewhere


def diagnose(options: DoctorOptions, tell: Callable[[str], object] = lambda line: None) -> dict[str, Any]:
    """Examine a model; returns the findings, and how many there are of each level.

    Args:
        tell: called with the text of each finding as soon as it is there.

    Raises:
        ConfigError: a model on a server.

    Example:
        >>> found = diagnose(DoctorOptions(model="./no-such-folder"))
        >>> found["errors"], found["findings"][0]["check"], found["findings"][1]["level"]
        (1, 'folder', 'skipped')
    """
    if is_elsewhere(options.model):
        raise ConfigError(f"{options.model}: is on a server; the doctor looks at a model's files")
    quiet_libraries()
    findings = []
    for finding in examine(Facts(options)):
        tell(finding.text)
        findings.append(finding)
    counts: Counter[Level] = Counter(finding.level for finding in findings)
    tell(f"{counts['error']} errors, {counts['warning']} warnings")
    return {
        "model": options.model,
        "data": options.data,
        "ok": counts["ok"],
        "warnings": counts["warning"],
        "errors": counts["error"],
        "skipped": counts["skipped"],
        "findings": [finding.to_json() for finding in findings],
    }


def examine(facts: Facts, checks: Sequence[Check] = CHECKS) -> Iterator[Finding]:
    """The findings of ``checks``, in order. A warning or an error is said once, by whoever met it first."""
    said: dict[str, str] = {}  # what was said, and by which check
    for check in checks:
        for finding in _findings(check, facts, said):
            if finding.level in ("warning", "error"):
                said.setdefault(finding.says, check.name)
            yield replace(finding, check=check.name)


def _findings(check: Check, facts: Facts, said: dict[str, str]) -> Iterator[Finding]:
    heard_before = set(facts.heard)
    found: list[Finding] = []
    with listening():
        try:
            found.extend(check.look(facts))
        except Unknown as unknown:
            found.append(_failed(unknown.reason, check, said))
        except Exception as reason:  # a broken model raises whatever its libraries raise
            found.append(_failed(reason, check, said))
    heard = [text for name, texts in facts.heard.items() if name not in heard_before for text in texts]
    yield from (warning(text, check.remedy) for text in dict.fromkeys(heard) if text not in said)
    yield from found


def _failed(reason: Exception, check: Check, said: dict[str, str]) -> Finding:
    """What went wrong, or, where that has been said, that the question is open because of it."""
    text = " ".join(str(reason).split())
    if not isinstance(reason, GramError | OSError):
        text = f"{type(reason).__name__}: {text}" if text else type(reason).__name__
    if text in said:
        return skipped(f"see {said[text]}")
    return error(text, check.remedy)
