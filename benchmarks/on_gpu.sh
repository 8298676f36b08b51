#!/usr/bin/env bash
# Every number that needs a GPU, in eight minutes, on a machine without network: the CUDA tests, scoring and training
# beside their peers on a 135M and a 0.6B model, and pairs one by one and in batches. Prints a table last.
#
#   WHEELS=wheels benchmarks/on_gpu.sh          # install what is missing from a folder of wheels, then measure
#   benchmarks/on_gpu.sh --dry-run              # on a CPU, a tiny model: shows that it runs
#   benchmarks/on_gpu.sh --requirements         # what it needs, in the form of a requirements file
#
# Fill the folder on a machine with network, the same system and the same version of Python. The torch in it must be one
# with CUDA: nvidia_* wheels lie beside it, or +cu is in its name. Without torch where the GPU machine has one:
#
#   benchmarks/on_gpu.sh --requirements >needed.txt
#   python3 -m pip download -d wheels -r needed.txt -c constraints.txt
#
# PYTHON   the interpreter; default: the first of python3, python and .venv/bin/python that imports torch, else python3.
#          Missing packages are installed into it: the machine is meant to be one that is given back.
# WHEELS   the folder of wheels.
# OUT      folder of the results; default: benchmarks/results/<name of the device>.
# SECONDS_IN_ALL  limit of all parts together; default: 470, setting up not counted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

first_with_torch() {
    local name
    for name in python3 python .venv/bin/python; do
        if command -v "$name" >/dev/null && "$name" -c 'import torch' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo python3
}

PYTHON=${PYTHON:-$(first_with_torch)}

requirements() {
    "$PYTHON" - <<'PYTHON_END'
import tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extra = project["optional-dependencies"]
tests = [name for name in extra["dev"] if name.startswith(("pytest>", "hypothesis"))]


def of(needed):
    """The packages, those of our own extras in place of their names."""
    for name in needed:
        if name.startswith("gram-rm["):
            for inner in name[len("gram-rm[") : -1].split(","):
                yield from of(extra[inner])
        else:
            yield name


print("\n".join(dict.fromkeys([*project["dependencies"], *of(extra["rl"]), *tests])))
PYTHON_END
}

ready() {
    "$PYTHON" -c 'import accelerate, datasets, hypothesis, peft, psutil, pytest, torch, transformers, trl, tyro' \
        2>/dev/null
}

arguments=()
case "${1:-}" in
--requirements)
    requirements
    exit
    ;;
--dry-run) arguments=(--device cpu --quick) ;;
"") ;;
*)
    echo "on_gpu: unknown argument $1 (known: --dry-run, --requirements)" >&2
    exit 1
    ;;
esac

if ! ready; then
    if [[ -z "${WHEELS:-}" ]]; then
        echo "on_gpu: $PYTHON lacks packages: name a folder of wheels with WHEELS=..., or another PYTHON=..." >&2
        exit 1
    fi
    PIP_BREAK_SYSTEM_PACKAGES=1 "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-index \
        --find-links "$WHEELS" -r <(requirements) >&2
fi

export PYTHONPATH=src:. HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
exec "$PYTHON" -m benchmarks.gpu "${arguments[@]}" --seconds "${SECONDS_IN_ALL:-470}" ${OUT:+--output "$OUT"}
