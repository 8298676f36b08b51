"""Which extra of the package brings which library, and the error that says so where a library is missing.

The core asks served models and reads files and reports. All else that we import comes with an extra of
pyproject.toml. Knows names; imports none of these libraries.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from gram.errors import MissingLibraryError

EXTRA_OF = {
    "torch": "torch",
    "transformers": "torch",
    "tokenizers": "torch",
    "huggingface_hub": "torch",
    "safetensors": "torch",
    "peft": "torch",
    "psutil": "torch",
    "datasets": "data",
    "pyarrow": "data",
    "accelerate": "train",
    "fastapi": "serve",
    "starlette": "serve",
    "pydantic": "serve",
    "prometheus_client": "serve",
    "uvicorn": "serve",
    "gradio": "ui",
    "gguf": "local",
    "matplotlib": "plots",
    "trl": "rl",
    "ray": "ray",
}
"""The smallest extra that brings a library, by the name under which it is imported."""


def need(*libraries: str) -> None:
    """Refuse to begin where one of ``libraries`` is missing; none is imported.

    Example:
        >>> need("torch", "transformers")

    Raises:
        MissingLibraryError: the first that is missing, and the extra that brings it.
    """
    for library in libraries:
        if find_spec(library) is None:
            raise _missing(library)


@contextmanager
def explained() -> Iterator[None]:
    """An import that fails in this block says which extra brings the library; also as a decorator.

    Raises:
        MissingLibraryError: in place of ``ModuleNotFoundError``; one about another library is left as it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if isinstance(error, MissingLibraryError) or library not in EXTRA_OF:
            raise
        raise _missing(library) from error


def _missing(library: str) -> MissingLibraryError:
    return MissingLibraryError(
        f"{library} is not installed: pip install 'gram-rm[{EXTRA_OF[library]}]'", name=library
    )
