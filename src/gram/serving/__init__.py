"""A model behind HTTP: the server of ``gram serve``, and ``RemoteModel``, its client.

Knows models as ``RewardModel``; loads no torch outside the processes that hold one. The server needs the
extra ``serve``; the client does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gram.serving.client import RemoteModel

__all__ = ["RemoteModel"]


def __getattr__(name: str) -> Any:  # the client's HTTP library comes with the first client
    if name == "RemoteModel":
        from gram.serving.client import RemoteModel

        return RemoteModel
    raise AttributeError(f"module 'gram.serving' has no attribute {name!r}")
