"""A model behind ``gram serve`` as the model of a command: ``--model http://HOST:PORT``.

Offers what ``scoring.source`` does for a model that is here. Knows the client; loads no torch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gram.claims import Reads
from gram.errors import ConfigError
from gram.workers import WHOLE, Share

if TYPE_CHECKING:
    from gram.serving.client import RemoteModel

TOKEN = "GRAM_TOKEN"
"""Environment variable with the token that the server wants."""


class ServedSource:
    """A served model.

    Args:
        url: of the server.
        given: options of ``gram.load`` that were given: they are the server's to decide.

    Raises:
        ConfigError: there are such options.
    """

    def __init__(self, url: str, given: Sequence[str] = ()) -> None:
        if given:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ConfigError(f"{flags}: how a served model is asked is said where it is served ({url})")
        self._url = url

    @cached_property
    def _model(self) -> RemoteModel:
        return self.load()

    @property
    def both_orders(self) -> bool:
        """Each pair is asked both ways."""
        return self._model.both_orders

    @property
    def precision(self) -> str:
        """Of the weights, there."""
        return self._model.dtype

    @property
    def reads(self) -> Reads:
        """Nothing that is here."""
        return Reads()

    def load(self, _: Share = WHOLE) -> RemoteModel:
        """A client of its own for each process.

        Raises:
            ScoringError: the server cannot be reached.
        """
        from gram.serving.client import RemoteModel

        return RemoteModel(self._url, token=os.environ.get(TOKEN))

    def check(self) -> None:
        """None: a prompt that the model cannot be shown is refused by the server."""

    def fingerprint(self) -> dict[str, Any]:
        """All that the scores depend on; the address is not among it."""
        return {"served": self._model.fingerprint}


def is_address(model: str) -> bool:
    """Whether ``model`` names a server.

    Example:
        >>> is_address("http://127.0.0.1:8000"), is_address("owner/name")
        (True, False)
    """
    return model.startswith(("http://", "https://"))
