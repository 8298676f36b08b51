"""vLLM as an engine for a judge that is here: started in an environment of its own, and ended with us.

vLLM pins its own torch and transformers, so it is a program for us and not a package. Knows how it is started
and when it is ready; knows no prompt and no verdict.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import weakref
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

from gram.asking import Dtype
from gram.errors import CheckpointError, ConfigError, ScoringError
from gram.scoring.remote import keeper

PROGRAM = "GRAM_VLLM"
"""Environment variable: vLLM's program, where it is not ``vllm`` on the path. Words behind it come first."""
OPTIONS = "GRAM_VLLM_OPTIONS"
"""Environment variable: more options for ``vllm serve``, as in a shell."""

_DTYPES: dict[Dtype, str] = {"auto": "bfloat16", "bf16": "bfloat16", "fp32": "float32"}
_PATIENCE = (
    3600.0  # seconds: a large model loads and compiles for minutes; a program that dies is met at once
)
_LINES = 5  # of what it said last, for an error
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP")  # of our environment, not of vLLM's


class Vllm:
    """A running vLLM that serves one model on a port of this machine.

    It ends with this object, with the process, and also where that is killed.

    Attributes:
        root: its address.
        token: the key that it wants, drawn for it.
    """

    def __init__(self, model: str, name: str, length: int, dtype: Dtype = "auto") -> None:
        """Start it, and wait until it is ready.

        Args:
            model: a folder, or a name on the Hub.
            name: under which requests name the model.
            length: most tokens of a prompt and its label.

        Raises:
            ConfigError: there is no such program.
            ScoringError: it ended before it was ready.
        """
        command = _program()
        port = _free_port()
        self.root, self.token = f"http://127.0.0.1:{port}", secrets.token_urlsafe(24)
        command += ["serve", model, "--served-model-name", name, "--host", "127.0.0.1", "--port", str(port)]
        command += ["--max-model-len", str(length), "--dtype", _DTYPES[dtype], "--enable-prefix-caching"]
        command += ["--generation-config", "vllm", *shlex.split(os.environ.get(OPTIONS, ""))]
        said = tempfile.NamedTemporaryFile(prefix="gram-vllm-", suffix=".log", delete=False)  # noqa: SIM115
        with said:
            self._process = subprocess.Popen(
                [sys.executable, keeper.__file__, *command],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us, who end it
                env=_environment() | {"VLLM_API_KEY": self.token},
            )
        self._end = weakref.finalize(self, _end, self._process, Path(said.name))
        print(f"starting vLLM for {name}; what it says is in {said.name}", file=sys.stderr, flush=True)
        self._wait(Path(said.name))

    def close(self) -> None:
        """End it; a second time does nothing."""
        self._end()

    def _wait(self, said: Path) -> None:
        until = time.monotonic() + _PATIENCE
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            try:
                with opener.open(f"{self.root}/health", timeout=5):
                    return
            except (URLError, OSError):
                pass
            status = self._process.poll()
            if status is not None or time.monotonic() > until:
                with said.open(encoding="utf-8", errors="replace") as file:
                    last = "".join(deque(file, _LINES)).rstrip()
                what = f"ended with status {status}" if status is not None else "is not ready after an hour"
                self._end.detach()
                _end(self._process)
                raise ScoringError(f"vLLM {what}; all that it said is in {said}, which ends:\n{last}")
            time.sleep(0.2)


def configuration(environment: Mapping[str, str] = os.environ) -> str:
    """A digest of all that the environment says of how vLLM runs, as its numbers may depend on it.

    The options cannot be read from it: a key may be among them.

    Example:
        >>> two = configuration({OPTIONS: "--tensor-parallel-size 2"})
        >>> two == configuration({OPTIONS: " --tensor-parallel-size  2"}), two == configuration({})
        (True, False)
    """
    options = shlex.split(environment.get(OPTIONS, ""))
    words = [shlex.split(environment.get(PROGRAM, ""))[1:], options]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()


def servable(name: str) -> str:
    """What vLLM opens for ``name``: its folder, or its name on the Hub.

    Raises:
        ConfigError: an adapter, of which vLLM would need the base apart.
        CheckpointError: no such model.
    """
    from gram.modeling.adapter_folder import is_adapter
    from gram.modeling.shipped import find_place

    place = find_place(name)
    if place.revision is not None:
        raise CheckpointError(f"vllm:{name}: without a revision, or a folder with that revision")
    if is_adapter(name):
        raise ConfigError(
            f"vllm:{name}: is an adapter, and vLLM is started on whole weights: "
            f"gram merge --model {name} --output FOLDER, then vllm:FOLDER"
        )
    return str(place.folder or place.name)


def _program() -> list[str]:
    words = shlex.split(os.environ.get(PROGRAM, "")) or ["vllm"]
    found = shutil.which(words[0])
    if found is None:
        raise ConfigError(
            f"vllm: there is no program '{words[0]}': install vLLM in an environment of its own, and name "
            f"its program ({PROGRAM}=/path/to/environment/bin/vllm); or name a running one (vllm:MODEL@URL)"
        )
    return [found, *words[1:]]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _OURS}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(process: subprocess.Popen[bytes], said: Path | None = None) -> None:
    """The keeper ends the program when its input ends; ``said`` is removed then."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(keeper.GRACE + 5)
    except subprocess.TimeoutExpired:
        process.kill()
    if said is not None:
        said.unlink(missing_ok=True)
