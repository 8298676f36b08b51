"""The precision of a model: as its user says, or by what the device multiplies fast and by the width.

Knows processors by their flags and models by their configuration; loads no weights and measures nothing, so
that the same command on the same machine always means the same precision.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import torch

from gram.asking import Dtype, Precision
from gram.errors import ConfigError
from gram.modeling.adapter_folder import holds_adapter, read_adapter
from gram.modeling.loading import choose_device
from gram.modeling.on_hub import on_disk
from gram.modeling.opening import open_config
from gram.modeling.presets import find_preset, is_preset
from gram.modeling.shipped import Place, find_place

WIDE = 512
"""Hidden size from which ``auto`` may mean bf16. Narrower models (the presets below ``base``) are
read in seconds as they are, and the numbers published for them were asked in fp32."""

TORCH: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
_PROCESSOR = Path("/proc/cpuinfo")
_FLAG = "amx_bf16"  # avx512_bf16 alone multiplies bf16 slower than fp32: docs/decisions.md


def precision_of(
    reference: str | Path,
    dtype: Dtype,
    device: str | None = None,
    *,
    revision: str | None = None,
    base: str | Path | None = None,
    trust_remote_code: bool = False,
) -> Precision:
    """The precision that ``dtype`` means for a model on ``device``.

    ``auto`` is bf16 for a model whose hidden states are at least ``WIDE`` on a device that multiplies bf16 in
    hardware, else fp32.

    Args:
        reference: a folder, an adapter, a preset, a model that comes with the package, or a Hub name. Its
            configuration is opened only where ``auto`` could be either.
        device: cpu or cuda; None: cuda where there is one.
        revision, base, trust_remote_code: as of ``load_model``; the base of a whole model is passed over.

    Raises:
        CheckpointError: nothing there, or no configuration that says how wide the model is.
        ConfigError: no such dtype, device or preset.

    Example:
        >>> precision_of("preset:tiny", "auto", "cpu"), precision_of("preset:tiny", "bf16", "cpu")
        ('fp32', 'bf16')
    """
    if dtype == "auto":
        fast = multiplies_bf16(choose_device(device))
        return "bf16" if fast and _width(reference, revision, base, trust_remote_code) >= WIDE else "fp32"
    if dtype not in get_args(Precision):
        raise ConfigError(f"dtype must be one of {', '.join(get_args(Dtype))}, got '{dtype}'")
    return dtype


def multiplies_bf16(device: str) -> bool:
    """Whether ``device`` multiplies matrices in bf16 by units of its own, and so faster than in fp32.

    Of processors these are the ones with AMX, told by the flags that Linux lists; elsewhere nothing is known.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        lines = _PROCESSOR.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return _FLAG in flags.split()


def _width(
    reference: str | Path, revision: str | None, base: str | Path | None, trust_remote_code: bool
) -> int:
    """Size of a model's hidden states, by its preset or its configuration; of an adapter, its base's."""
    if is_preset(str(reference)):
        return find_preset(str(reference)).hidden
    place = whole_model(find_place(reference, revision), base)
    return int(open_config(place, trust_remote_code=trust_remote_code).get_text_config().hidden_size)


def whole_model(place: Place, base: str | Path | None = None) -> Place:
    """Where the whole model is: of an adapter its base, which may be an adapter again.

    Args:
        base: of an adapter, in place of the base that it names; of a whole model passed over.

    Raises:
        CheckpointError, FetchError: as ``read_adapter``.
    """
    place = on_disk(place)
    adapter = read_adapter(place, base if holds_adapter(place) else None)
    return place if adapter is None else whole_model(adapter.base)
