"""What is wrong with a model, or with rows for it, found before a long run.

``facts`` finds out; ``files``, ``prompts``, ``rows`` and ``answers`` judge what was found out, one small
function per question; ``checks`` is the list of these, and ``examine`` goes through it. To add a check, write
a function from ``Facts`` to findings into the module it belongs to, and a line into the list. Knows models
and data as all of gram reads them; mends nothing, writes nothing, and knows no command.
"""

from __future__ import annotations

from gram.doctor.finding import Finding, error, ok, skipped, warning

__all__ = ["Finding", "error", "ok", "skipped", "warning"]
