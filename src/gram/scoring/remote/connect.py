"""A remote judge from its name and the options of ``gram.load``. Knows which protocol has which options."""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from gram.asking import LoadOptions, given
from gram.errors import ConfigError
from gram.paths import at_home
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
_OF_TOKENS = ("openai-completions", "vllm", "vllm-generative", "sglang-score")
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
    options = options_for(address, options)
    if address.protocol == "vllm" and not address.root:
        return _started(address, options)
    key = os.environ.get(KEY_OF_OPENAI if address.of_openai else KEY)
    calls = Calls(address.root, options, key)
    server = Server(address, calls)
    if address.protocol in _SCALAR:
        of_pairs, neutralise = address.protocol == "vllm-score", options.neutralise is not False
        return RemoteScalar(calls, server, of_pairs=of_pairs, neutralise=neutralise), server, calls
    return _judge(address.protocol, calls, server, _tokens(options), options), server, calls


def options_for(address: Address, options: LoadOptions) -> LoadOptions:
    """The options with what the name says already: of ``vllm:MODEL`` the tokenizer is the model's.

    Raises:
        ConfigError: options that do nothing for this protocol; what they are for.
    """
    if address.protocol == "vllm" and options.tokenizer is None:
        if address.root and address.model.count("/") != 1 and not at_home(address.model).is_dir():
            raise ConfigError(
                f"vllm:{address.model}@{address.root}: there is no folder {address.model} here; whose tokens "
                "does it read? Name a folder or a model of the Hub (tokenizer=)"
            )
        options = replace(options, tokenizer=address.model)
    known = set(_ALWAYS)
    if address.protocol == "vllm" and not address.root:
        known |= {"dtype"}
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
    return options


def _started(address: Address, options: LoadOptions) -> tuple[JudgeModel, Server, Calls]:
    """The judge on a vLLM that is started for it, and ends with it."""
    from gram.modeling.digests import content_of
    from gram.scoring.remote.vllm import Vllm, configuration, servable

    folder, tokens = servable(address.model), _tokens(options)
    assert tokens is not None
    engine = Vllm(folder, address.model, tokens.renderer.max_length + 1, options.dtype)
    content = json.dumps([content_of(folder), options.dtype, configuration()], sort_keys=True)
    kept_as = f"vllm:{hashlib.sha256(content.encode()).hexdigest()}"
    calls = Calls(engine.root, options, engine.token, kept_as=kept_as)
    server = Server(replace(address, root=engine.root), calls)
    model = _judge("vllm", calls, server, tokens, options)
    weakref.finalize(model, engine.close)
    return model, server, calls


def _judge(
    protocol: str, calls: Calls, server: Server, tokens: Tokens | None, options: LoadOptions
) -> JudgeModel:
    template = load_template(options.template) if tokens is None else tokens.renderer.template
    backend = _backend(protocol, calls, server, tokens, options.neutralise is not False)
    model = JudgeModel(backend, template, both_orders=options.both_orders)
    if tokens is not None:
        from gram.scoring.calibrated import put_on

        put_on(model, tokens.manifest, options)
    return model


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
        case "openai-completions" | "vllm":
            return CompletionsBackend(*common)
        case "systemone":
            return ChoiceBackend(*common)
    return LabelScoreBackend(*common, sglang=protocol == "sglang-score")
