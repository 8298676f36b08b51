"""Whether a chat template comes to an end: a trial in a child process, under limits of time and memory.

A chat template is a program that comes with a model. One that loops for ever or takes all memory must not do
so in the process that scores. Each template is tried once per process. Knows a way to render; no tokenizer.
"""

from __future__ import annotations

import os
import select
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

SECONDS = 5
"""Most processor time for the trial conversations together; a usual template takes some milliseconds."""
PATIENCE = 60
"""Most seconds to wait for the child: on a busy machine its processor time comes slowly."""
MEMORY = 2**30
"""Most bytes that the trial may take above what the process has already."""
LONGEST = 2**20
"""Most characters around the texts of a short conversation."""

_USER = {"role": "user", "content": "Why?"}
_ASSISTANT = {"role": "assistant", "content": "Because."}
_SYSTEM = {"role": "system", "content": "Be kind."}
_CONVERSATIONS: Sequence[tuple[list[dict[str, str]], bool]] = [
    ([_USER], True),
    ([_USER, _ASSISTANT], False),
    ([_SYSTEM, _USER], True),
    ([_SYSTEM, _USER, _ASSISTANT, _USER, _ASSISTANT], False),
]

Render = Callable[[list[dict[str, str]], bool], str]


def trial(render: Render) -> str | None:
    """Why ``render`` cannot be used, or None: what it refuses is not looked at, only whether it ends.

    Args:
        render: messages, and whether the assistant is to speak, to text.

    Example:
        >>> trial(lambda messages, open_answer: "x" * 2**21)
        'writes 2097152 characters around a short conversation'
    """
    if not hasattr(os, "fork"):  # Windows: nothing to try it in
        return None
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child starts no thread and takes no lock
        child = os.fork()
    if child == 0:
        _in_child(render, writer)
    os.close(writer)
    try:
        return _verdict(child, reader)
    finally:
        os.close(reader)


def _verdict(child: int, reader: int) -> str | None:
    deadline = time.monotonic() + PATIENCE
    answer = b""
    while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(reader, 4096)
        if not part:  # the child has ended
            break
        answer += part
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if answer:
        return None if answer == b"fine" else answer.decode()
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
        return f"takes more than {SECONDS} s for a short conversation"
    return (
        None  # it broke down before it could try: some systems do not bear a fork of a process with threads
    )


def _in_child(render: Render, writer: int) -> NoReturn:
    """Renders the trial conversations and says how it went; never returns to the code of the parent."""
    answer = "fine"
    try:
        _limit()
        for messages, open_answer in _CONVERSATIONS:
            try:
                text = render(messages, open_answer)
            except (MemoryError, RecursionError):
                raise
            except Exception:  # refused: other conversations may do
                continue
            if len(text) > LONGEST:
                answer = f"writes {len(text)} characters around a short conversation"
                break
            if render(messages, open_answer) != text:
                answer = "writes another text each time"
                break
    except MemoryError:
        answer = f"takes more than {MEMORY // 2**20} MiB of memory for a short conversation"
    except BaseException as error:
        answer = f"fails with {type(error).__name__}"
    try:
        os.write(writer, answer.encode())
    finally:
        os._exit(0)


def _limit() -> None:
    import resource

    used = time.process_time()  # the child's count starts at 0, but not everywhere
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + SECONDS, int(used) + SECONDS + 1))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # only Linux says here how much a process has
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
