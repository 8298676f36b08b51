"""``gram.load``: a folder or a Hub name, a server, or a remote judge becomes a model that can be asked.

Knows which name means which; torch is loaded with the first model that is here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeAlias

from gram.asking import LoadOptions, given, refuse_calling
from gram.errors import ConfigError
from gram.extras import explained
from gram.scoring.remote.address import is_remote
from gram.scoring.remote.connect import open_remote
from gram.serving.source import TOKEN, is_address

if TYPE_CHECKING:
    from gram.scoring.loading import LocalModel
    from gram.scoring.remote.connect import RemoteModel as Remote
    from gram.serving.client import RemoteModel as Served

    AnyModel: TypeAlias = LocalModel | Remote | Served

P = ParamSpec("P")


def load_any(path: str | Path, options: LoadOptions) -> AnyModel:
    """``load`` with its options in one object."""
    if is_remote(path):
        return open_remote(str(path), options)
    refuse_calling(options)
    if isinstance(path, str) and is_address(path):
        if found := given(options):
            raise ConfigError(f"{', '.join(found)}: how a served model is asked is said where it is served")
        from gram.serving.client import RemoteModel

        return RemoteModel(path, token=os.environ.get(TOKEN))
    from gram.scoring.loading import load_with

    return load_with(path, options)


def _with_keywords(
    load: Callable[[str | Path, LoadOptions], AnyModel], options: Callable[P, LoadOptions]
) -> Callable[Concatenate[str | Path, P], AnyModel]:
    """``load`` with the fields of its options as keyword arguments, which type checkers and ``help`` see.

    The options are listed and described once, in ``gram.asking``.
    """

    @wraps(load)
    def with_keywords(path: str | Path, *args: P.args, **kwargs: P.kwargs) -> AnyModel:
        with explained():
            return load(path, options(*args, **kwargs))

    path_parameter = Parameter("path", Parameter.POSITIONAL_OR_KEYWORD, annotation="str | Path")
    options_signature = signature(options)
    with_keywords.__signature__ = options_signature.replace(  # type: ignore[attr-defined]
        parameters=[path_parameter, *options_signature.parameters.values()], return_annotation="AnyModel"
    )
    with_keywords.__name__ = with_keywords.__qualname__ = "load"
    return with_keywords


load = _with_keywords(load_any, LoadOptions)
load.__doc__ = """Load a model for scoring.

A folder with ``gram.json`` is loaded as that file says. A raw causal language model is a zero-shot judge, or
a likelihood scorer with ``kind="likelihood"``.

Args:
    path: model folder, adapter (a PEFT folder; its base is loaded with it), ``gram-135m`` (comes with the
        package), ``smollm2-135m`` (fetched on its first use), or Hub name (``owner/name``, and
        ``owner/name@revision``); ``http://HOST:PORT`` of ``gram serve``; or a remote judge, such as
        ``openai:MODEL@http://HOST/v1`` (docs/remote.md), for which no torch is loaded.
    kind, template, ...: the fields of ``gram.asking.LoadOptions``, which says what each means.

Returns:
    A ``gram.types.RewardModel``; a likelihood or scalar model is a ``ScalarModel`` too.

Raises:
    CheckpointError: nothing there, broken, or not of that kind.
    TemplateError: a wrong template, or labels that are not one token in their place.
    ConfigError: an option that makes no sense, or a library is missing (``MissingLibraryError``).
    FetchError: a model that has to be fetched, and cannot be or must not (``GRAM_OFFLINE=1``).
    ScoringError: a server that cannot be reached.

Example:
    >>> from gram import Pair
    >>> model = load("gram-135m")  # a judge: P(a is better), asked in both orders
    >>> model.compare([Pair("What is 2 + 2?", a="2 + 2 is 4.", b="Bread.")]).p_a.shape
    (1,)
"""
