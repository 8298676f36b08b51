"""A remote judge as the model of a command: ``--model openai:MODEL@URL``.

Offers what ``scoring.source`` does for a model that is here. Knows names and options; loads no torch, but
where a tokenizer is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gram.asking import LoadOptions
from gram.claims import Reads
from gram.errors import ConfigError
from gram.scoring.remote.address import read_address
from gram.scoring.remote.connect import RemoteModel, connect, options_for
from gram.workers import WHOLE, Share

if TYPE_CHECKING:
    from gram.scoring.remote.server import Server

_OF_OTHERS = ("workers", "ensemble_with", "ensemble", "ensemble_penalty", "centre_on")
"""Options of commands for models that are here."""


class RemoteSource:
    """A remote judge.

    Args:
        name: ``PROTOCOL:MODEL@URL``.
        options: of ``gram.load``.
        given: options of the command that were given, by name.

    Raises:
        ConfigError: a wrong name, or options that it does not have.
    """

    def __init__(self, name: str, options: LoadOptions, given: Sequence[str] = ()) -> None:
        if found := [f"--{option.replace('_', '-')}" for option in given if option in _OF_OTHERS]:
            raise ConfigError(
                f"{', '.join(found)}: not for a remote judge (--connections: requests side by side)"
            )
        self._name = name
        self._address = read_address(name)
        self._options = options_for(self._address, options)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process has connections of its own."""
        return RemoteSource, (self._name, self._options)

    @cached_property
    def _opened(self) -> tuple[RemoteModel, Server]:
        model, server, _ = connect(self._address, self._options)
        return model, server

    @property
    def both_orders(self) -> bool:
        """Each pair is asked both ways."""
        return self._options.both_orders

    @property
    def precision(self) -> None:
        """Of the weights: no server tells."""

    @property
    def reads(self) -> Reads:
        """The local files that asking reads; answers that are kept count as such."""
        options = self._options
        return Reads([options.template, options.tokenizer, options.cache])

    def load(self, _: Share = WHOLE) -> RemoteModel:
        """The model.

        Raises:
            GramError: as ``open_remote``.
        """
        return self._opened[0]

    def check(self) -> Callable[[object], None] | None:
        """None: a prompt that the model cannot be shown is refused by the server."""

    def fingerprint(self) -> dict[str, Any]:
        """All that the scores depend on, as far as a server tells: a model may change behind its name.

        Raises:
            ScoringError: the server cannot be reached.
        """
        model, server = self._opened
        address, options = self._address, self._options
        found: dict[str, Any] = {
            "remote": [address.protocol, address.model, address.root + address.prefix],
            "template": model.template.hash if model.template is not None else None,
            "both_orders": options.both_orders,
            "neutralise": options.neutralise,
            "max_length": options.max_length,
            "dtype": options.dtype,
            "served": server.models(),
        }
        if options.tokenizer is not None:
            from gram.modeling.digests import content_of

            found["tokenizer"] = content_of(str(options.tokenizer))
        if not address.root:
            from gram.scoring.remote.vllm import configuration

            found["engine"] = configuration()
        return found
