"""A remote judge from its name and the options of ``gram.load``. Knows which protocol has which options."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

from gram.asking import LoadOptions, given
from gram.errors import ConfigError
from gram.rendering import load_template
from gram.scoring.judge import JudgeBackend, JudgeModel
from gram.scoring.remote.address import Address, read_address
from gram.scoring.remote.backends import ChatBackend, ChoiceBackend, CompletionsBackend, LabelScoreBackend
from gram.scoring.remote.calls import Calls
from gram.scoring.remote.scalar import RemoteScalar
from gram.scoring.remote.server import Server

if TYPE_CHECKING:
    from gram.scoring.remote.prompts import Tokens

KEY = "GRAM_API_KEY"
"""Environment variable with the key that a server wants."""
KEY_OF_OPENAI = "OPENAI_API_KEY"
"""The same, for OpenAI's own server only: no other is shown it."""

RemoteModel: TypeAlias = JudgeModel | RemoteScalar

_SCALAR = ("vllm-classify", "vllm-score")
_OF_TOKENS = ("openai-completions", "vllm-generative", "sglang-score")
_ALWAYS = ("neutralise", "connections", "deadline", "spend", "cache")
_OF_JUDGES = ("kind", "template", "both_orders")
_WITH_TOKENIZER = ("tokenizer", "max_length")


def open_remote(name: str, options: LoadOptions) -> RemoteModel:
    """The judge, or the scalar model, that ``name`` stands for.

    Raises:
        ConfigError: a wrong name, or an option that it does not have.
        CheckpointError, TemplateError: the tokenizer or the template that is named.
    """
    return connect(read_address(name), options)[0]


def connect(address: Address, options: LoadOptions) -> tuple[RemoteModel, Server, Calls]:
    """The model at ``address``, its server, and the calls to it. See ``open_remote``."""
    check_options(address, options)
    key = os.environ.get(KEY_OF_OPENAI if address.of_openai else KEY)
    calls = Calls(address.root, options, key)
    server = Server(address, calls)
    neutralise = options.neutralise is not False
    if address.protocol in _SCALAR:
        of_pairs = address.protocol == "vllm-score"
        return RemoteScalar(calls, server, of_pairs=of_pairs, neutralise=neutralise), server, calls
    tokens = _tokens(options)
    template = load_template(options.template) if tokens is None else tokens.renderer.template
    backend = _backend(address.protocol, calls, server, tokens, neutralise)
    model = JudgeModel(backend, template, both_orders=options.both_orders)
    if tokens is not None:
        from gram.scoring.calibrated import put_on

        put_on(model, tokens.manifest, options)
    return model, server, calls


def check_options(address: Address, options: LoadOptions) -> None:
    """Refuse options that do nothing for this protocol.

    Raises:
        ConfigError: naming them, and what they are for.
    """
    known = set(_ALWAYS)
    if address.protocol not in _SCALAR:
        known |= set(_OF_JUDGES)
    if address.protocol in _OF_TOKENS:
        known |= {"tokenizer"} if options.tokenizer is None else set(_WITH_TOKENIZER)
    if found := given(options, but=known):
        raise ConfigError(
            f"{', '.join(found)}: not for {address.protocol}:, which takes {', '.join(sorted(known))}"
        )
    if options.kind not in (None, "judge"):
        raise ConfigError(f"kind {options.kind}: {address.protocol}: is a judge")


def _tokens(options: LoadOptions) -> Tokens | None:
    if options.tokenizer is None:
        return None
    from gram.scoring.remote.prompts import tokens_with

    return tokens_with(options)


def _backend(
    protocol: str, calls: Calls, server: Server, tokens: Tokens | None, neutralise: bool
) -> JudgeBackend:
    common = (calls, server, tokens, neutralise)
    match protocol:
        case "openai":
            return ChatBackend(*common)
        case "openai-completions":
            return CompletionsBackend(*common)
        case "systemone":
            return ChoiceBackend(*common)
    return LabelScoreBackend(*common, sglang=protocol == "sglang-score")
