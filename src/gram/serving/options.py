"""Options of ``gram serve`` beside those of the model.

Knows names and numbers, and files of one line; knows no model and no HTTP.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gram.bounds import Count, Within
from gram.errors import ConfigError

_FEWEST = 16  # characters of a token that is not guessed


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Where to listen, who is let in, how much waits."""

    host: str = "127.0.0.1"
    """Address to listen at. One that other machines reach needs --token-file."""
    port: Annotated[int, Within(0, 65_535)] = 8000
    """Port to listen at. 0: one that is free."""
    token_file: Path | None = None
    """File with the token that callers must send (Authorization: Bearer TOKEN). Default: no token."""
    max_batch_tokens: Count | None = None
    """Tokens, about, that a process is given at once. Default: 8,192 on a CPU, 65,536 on a GPU."""
    max_queue: Count = 4_096
    """Comparisons and answers that may wait, of all callers together; more are told to come again."""
    orders: Count = 2
    """In how many orders the options of typed questions are shown: 1, or an even number."""

    def token(self) -> str | None:
        """The token of ``token_file``; None where there is no such file to read.

        Raises:
            ConfigError: it cannot be a token, or the server would listen to others without one.
            OSError: the file cannot be read.
        """
        if self.token_file is None:
            if not is_loopback(self.host):
                raise ConfigError(
                    f"--host {self.host} lets other machines in: name a file with a token, --token-file"
                )
            return None
        text = self.token_file.read_text(encoding="utf-8", errors="replace").strip()
        if len(text) < _FEWEST or not text.isascii() or not text.isprintable() or " " in text:
            raise ConfigError(
                f"{self.token_file}: a token is one line of at least {_FEWEST} letters, digits and signs; "
                "make one with: openssl rand -hex 32"
            )
        return text


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
        (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: it may lead anywhere
        return False
