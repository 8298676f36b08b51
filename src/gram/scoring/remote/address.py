"""The name of a remote judge: which protocol it speaks, which model it is, and where. Knows text only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gram.errors import ConfigError
from gram.serving.source import is_address

PROTOCOLS = {
    "openai": "chat completions with logprobs, of any server that has them",
    "openai-completions": "completions with logprobs; reads tokens with tokenizer=",
    "vllm": "a judge's folder on vLLM, which is at URL or, without one, is started here",
    "vllm-generative": "vLLM's /generative_scoring: exact probabilities of the labels",
    "sglang-score": "SGLang's /v1/score: exact probabilities of the labels; needs tokenizer=",
    "systemone": "a choice question of /v1/systemone",
    "vllm-classify": "vLLM's /classify: a scalar reward model",
    "vllm-score": "vLLM's /score: a scalar model of prompt and answer",
}
"""What a name may begin with, and what is asked."""
OF_OPENAI = "https://api.openai.com/v1"

_NAME = re.compile(r"(?P<protocol>[a-z-]+):(?P<model>(?!@https?://).+?)(?:@(?P<url>https?://.*))?", re.DOTALL)
_HOST = r"localhost|\[[\da-f:]+\]|\d+(?:\.\d+){3}|[\w.-]+:\d+|[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}/v1"
_NO_SCHEME = re.compile(rf"@(?:{_HOST})(?::\d+)?(?:/.*)?$", re.DOTALL | re.IGNORECASE)  # a server, no model


@dataclass(frozen=True, slots=True)
class Address:
    """A model on a server.

    Attributes:
        protocol: one of ``PROTOCOLS``.
        model: its name there.
        root: the server, without ``/v1``; empty where it is started for the model.
        prefix: ``/v1`` where the address ends so, else empty.
    """

    protocol: str
    model: str
    root: str
    prefix: str

    @property
    def of_openai(self) -> bool:
        """Whether this is OpenAI's own server."""
        return self.root + self.prefix == OF_OPENAI


def is_remote(name: object) -> bool:
    """Whether ``name`` names a remote judge.

    Example:
        >>> is_remote("openai:gpt-4o"), is_remote("owner/name"), is_remote("http://127.0.0.1:8000")
        (True, False, False)
    """
    return not isinstance(name, Path) and str(name).split(":")[0] in PROTOCOLS and ":" in str(name)


def is_elsewhere(name: str) -> bool:
    """Whether ``name`` names a model on a server, of ``gram serve`` or another."""
    return is_remote(name) or is_address(name)


def refuse_elsewhere(name: object) -> None:
    """Refuse a model on a server where one that is here is due.

    Raises:
        ConfigError: naming it.
    """
    if is_elsewhere(str(name)):
        raise ConfigError(f"{name}: is on a server; this takes models that are here")


def read_address(name: str) -> Address:
    """The parts of ``PROTOCOL:MODEL@URL``; without ``@URL`` a model is OpenAI's, or for a vLLM that we start.

    Raises:
        ConfigError: no model, a protocol that needs a URL has none, or an address without ``http://``.

    Example:
        >>> read_address("openai:org/judge@http://127.0.0.1:8000/v1")
        Address(protocol='openai', model='org/judge', root='http://127.0.0.1:8000', prefix='/v1')
        >>> read_address("openai:gpt-4o").root
        'https://api.openai.com'
        >>> read_address("vllm:runs/judge").root
        ''
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(f"'{name}': a remote judge is named PROTOCOL:MODEL@http://HOST:PORT/v1")
    protocol, url = match["protocol"], match["url"]
    if url is None and (place := _NO_SCHEME.search(name)):
        raise ConfigError(f"'{name}': an address begins with http:// or https://: @http://{place[0][1:]}")
    if url is None and protocol == "vllm":
        return Address(protocol, match["model"], "", "/v1")
    if url is None and not protocol.startswith("openai"):
        raise ConfigError(f"'{name}': where is the server? {protocol}:MODEL@http://HOST:PORT")
    url = (url or OF_OPENAI).rstrip("/")
    prefix = "/v1" if url.endswith("/v1") or protocol == "vllm" else ""
    return Address(protocol, match["model"], url.removesuffix("/v1"), prefix)
