"""A language model in a GGUF file becomes a Hugging Face folder in bf16, with the same bytes everywhere.

transformers reads the file with the small package ``gguf``, which is an extra. Knows files and tensors.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gram.errors import FetchError
from gram.extras import need

LIBRARIES = ("gguf", "transformers")


def check_libraries() -> None:
    """Refuse to begin where GGUF files cannot be read.

    Raises:
        MissingLibraryError: a library is missing; says how to install it.
    """
    need("torch", *LIBRARIES)


def versions() -> dict[str, str]:
    """The installed versions of what converts, by name."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # code without the files that tell its version
            found[name] = "of unknown version"
    return found


def convert(gguf: Path, into: Path) -> None:
    """Write ``config.json``, ``model.safetensors`` and the tokenizer of a GGUF file into the folder ``into``.

    The quantised weights are multiplied out in fp32 and rounded once, to bf16. Everything is computed number
    by number, and written in the order and with the metadata that safetensors gives, so that the bytes of the
    weights depend on nothing but the file and the versions of the libraries.

    Raises:
        FetchError: transformers cannot read the file.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = gguf.parent, gguf.name
    try:
        read: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    except Exception as error:  # of transformers and gguf: OSError, ValueError, ImportError, KeyError, ...
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise FetchError(f"{gguf.name}: transformers cannot read this GGUF file: {reason}") from error
    config = read.config
    if hasattr(config, "quantization_config"):  # the weights are plain numbers now
        del config.quantization_config
    # a model read from a quantised file refuses to be saved; a fresh one takes its weights over
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(into)
    tokenizer.save_pretrained(into)
    mode = (into / "config.json").stat().st_mode
    for path in into.iterdir():  # safetensors lets nobody else read its file, and caches are shared
        path.chmod(mode)
