"""The program ``gram``, also as ``python -m gram``: what has to be right before and after the command.

An interrupt while the imports run, a reader of stdout that went away, a terminal that is none. Imports
nothing at first, so that its own handler stands early.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def entry() -> int:
    """Run ``gram`` with the arguments of the process; returns the exit code."""
    interrupts: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        interrupts.append(number)
        raise KeyboardInterrupt

    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started us
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is to be ignored
            signal.signal(signal.SIGINT, interrupt)
        from gram.cli.main import main

        code = main()
    except BaseException as error:
        if interrupts:  # an import may have turned it into an error of another kind
            print("gram: interrupted", file=sys.stderr)
            code = 130
        elif isinstance(error, OSError) and error.errno is not None and error.filename is None:
            print(f"gram: stdout: {error.strerror}", file=sys.stderr)
            code = 1
        else:
            raise
    if interrupts or signal.getsignal(signal.SIGINT) is interrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is left to tidy up
    return _flushed(code)


def _flushed(code: int) -> int:
    """Write out what stands in stdout; where that cannot be, say so, once."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if code == 0:
            print(f"gram: stdout: {error.strerror}", file=sys.stderr)
            code = 1
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again at its end
    return code


if __name__ == "__main__":
    sys.exit(entry())
