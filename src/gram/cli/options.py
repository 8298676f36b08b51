"""Options that several commands share: which model, how it is asked, and how its input is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gram.data.sources import is_file_of
from gram.errors import CheckpointError, ConfigError
from gram.files import make_folder
from gram.modeling.shipped import model_folder

if TYPE_CHECKING:
    from gram.types import RewardModel

_MIB = 2**20
_WHOLE = 64 * _MIB  # files up to this size are read whole to tell one model from another: a tenth of a second
_STEP, _SAMPLE = 16 * _MIB, _MIB // 16  # of larger ones 64 KiB in every 16 MiB


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and how it is asked."""

    model: str
    """Model folder, gram-small (comes with the package), or Hub name."""
    kind: Literal["judge", "likelihood", "scalar"] | None = None
    """How to ask it. Default: as it was trained; a raw language model is a judge."""
    template: str | None = None
    """Judge template: a built-in name or a JSON file. Default: that of the model."""
    device: str | None = None
    """cpu or cuda. Default: cuda where there is one."""
    max_length: int | None = None
    """Most tokens per prompt; longer ones lose the middle of their texts. Default: what the model reads."""
    token_budget: int | None = None
    """Most tokens read in one forward pass: memory against speed. Default: by the free memory."""
    engine: Literal["tree", "plain"] = "tree"
    """tree: prefixes that prompts share are read once; plain: each prompt by itself. Scores are the same."""
    raw_control_tokens: bool = False
    """Leave control tokens inside prompts and answers as they are: for paper-exact scores."""
    single_order: bool = False
    """judge: ask each pair only as it is shown: half the cost, and the position bias stays in."""
    length_power: float | None = None
    """likelihood: divide by the answer's length to this power (1: mean per token)."""
    baseline: Literal["none", "unconditional"] = "none"
    """likelihood: unconditional subtracts the score without the prompt (PMI)."""
    reference: str | None = None
    """likelihood: a model whose score is subtracted (the DPO implicit reward)."""
    ensemble_with: list[str] = field(default_factory=list)
    """More models of the same kind, asked together with the model as one."""
    ensemble: Literal["mean", "minimum", "uncertainty_weighted"] = "mean"
    """How the models agree: on the mean, on the worst case, or on the mean less their disagreement."""
    ensemble_penalty: float = 0.5
    """uncertainty_weighted: how much the variance between the models costs."""
    centre_on: str | None = None
    """Ensembles of scalar models: rows whose answers put the models' zeros in one place."""

    def load_model(self) -> RewardModel:
        """The model, or the ensemble, ready to be asked.

        Raises:
            GramError: it cannot be loaded, or ``centre_on`` cannot be read or serves nothing.
        """
        import gram
        from gram.cli.quiet import quiet_libraries

        quiet_libraries()
        how: dict[str, Any] = {
            "kind": self.kind,
            "template": self.template,
            "device": self.device,
            "max_length": self.max_length,
            "token_budget": self.token_budget,
            "engine": self.engine,
            "neutralise": False if self.raw_control_tokens else None,
            "both_orders": not self.single_order,
            "length_power": self.length_power,
            "baseline": self.baseline,
            "reference": self.reference,
        }
        if not self.ensemble_with:
            if self.centre_on or self.ensemble != "mean":
                raise ConfigError("--ensemble and --centre-on go with --ensemble-with")
            return gram.load(self.model, **how)
        paths = [self.model, *self.ensemble_with]
        model = gram.ensemble(paths, self.ensemble, penalty=self.ensemble_penalty, **how)
        if self.centre_on:
            _centre(model, self.centre_on)
        return model

    def fingerprint(self) -> dict[str, Any]:
        """What decides the scores, for a run that may be continued only with the same.

        A local model or template stands there with its content and not with its path, so that the shards of
        a run may be made with copies of it; so do the rows of ``centre_on``.

        Raises:
            CheckpointError: a file of the model cannot be read.
            DataError: the rows of ``centre_on`` cannot.
        """
        from gram.data import read_scorables

        asked = {name: getattr(self, name) for name in ModelOptions.__dataclass_fields__}
        del asked["token_budget"], asked["engine"], asked["device"]
        for name in ("model", "reference", "template"):
            asked[name] = asked[name] and _content(asked[name])
        centres = read_scorables(self.centre_on).sources if self.centre_on else ()
        return asked | {
            "ensemble_with": [_content(name) for name in self.ensemble_with],
            "centre_on": [source.sha256 for source in centres],
        }


def _centre(model: RewardModel, source: str) -> None:
    from gram.data import read_scorables
    from gram.scoring.ensemble import ScorerEnsemble
    from gram.types import Answer, Contest, Pair

    if not isinstance(model, ScorerEnsemble):
        raise ConfigError("--centre-on is for models that score: judges that compare have no zero")
    prompts, answers = [], []
    for row in read_scorables(source).records:
        match row.item:
            case Pair(prompt=prompt, a=a, b=b):
                texts = [a, b]
            case Contest(prompt=prompt, responses=responses):
                texts = list(responses)
            case Answer(prompt=prompt, response=response):
                texts = [response]
        prompts += [prompt] * len(texts)
        answers += texts
    model.centre(prompts, answers)


def truncated_prompts(model: RewardModel, resumed: int) -> int | None:
    """How many prompts of a run were shortened; None if some rows were on file, which keep no such count."""
    return None if resumed else model.usage.truncated


def check_output_file(output: Path, source: str) -> None:
    """Refuse an output that could not be written, or would replace the input, before any work is done.

    Its folder is made.

    Raises:
        ConfigError: ``output`` is a folder or can lie in none, or is the file that ``source`` names.
    """
    if output.is_dir():
        raise ConfigError(f"output {output}: is a folder; name a file")
    if is_file_of(source, output):
        raise ConfigError(f"output {output}: is the input; name another file")
    make_folder(output.parent)


def _content(name: str) -> str | dict[str, str]:
    """A digest of each file of a local file or folder; any other name (Hub, built-in template) as it is."""
    place = model_folder(name) or Path(name)
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    return {path.name: _digest(path) for path in files if path.is_file()} or name


def _digest(path: Path) -> str:
    """Of a file's size and content; of a large file only samples: many GB would take minutes to read."""
    try:
        size = path.stat().st_size
        digest = sha256(str(size).encode())
        with path.open("rb") as file:
            for start, length in [(0, size)] if size <= _WHOLE else _samples(size):
                file.seek(start)
                digest.update(file.read(length))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _samples(size: int) -> list[tuple[int, int]]:
    """(start, length) of the parts of a weight file that tell two trainings of one model apart.

    The first MiB holds names and shapes, which are the same; but training changes nearly every number, and
    every matrix of 16 MiB is looked into. A last layer, trained alone, lies at an end of the file.
    """
    return [(0, _MIB), *((start, _SAMPLE) for start in range(_STEP, size, _STEP)), (size - _MIB, _MIB)]
