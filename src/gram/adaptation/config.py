"""The options of ``gram adapt``: one documented dataclass is its flags, its YAML file and its reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gram.asking import Dtype, Layout
from gram.bounds import Count, Folds, Rank, Rate, Seed, Smoothing, check_bounds
from gram.config_file import READABLE_AS_MAPPING
from gram.errors import ConfigError
from gram.training.config import check_run_length


@dataclass(frozen=True)
class AdaptConfig:
    """Adapt a trained model to a new task with 10 to 1,000 labeled pairs; keep the old one if that wins.

    Steps and rate are chosen, and the result is judged, on rows held back in turn. OUTPUT becomes a model
    folder like any other, with adapt.json, the numbers behind the decision.
    """

    model: str
    """The model to adapt: a folder, gram-135m, smollm2-135m (is fetched), or a Hub name."""
    data: list[str]
    """Labeled pairs of the new task: files (.jsonl, .json, .csv, .parquet, ...), folders or Hub names."""
    output: Path
    """Folder for the result: the adapted model, or the old one unchanged."""

    # --- Where the model comes from ---
    revision: str | None = None
    """Branch, tag or commit of a model on the Hub. Default: the newest."""
    base: str | None = None
    """Of a model that is an adapter (a PEFT folder): its base, in place of the one that it names."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Default: such a model is refused."""

    # --- Data ---
    split: str | None = None
    """Use only this split of the data."""
    columns: str | None = field(default=None, metadata=READABLE_AS_MAPPING)
    """Names of columns: prompt=question,chosen=good; ignore=COLUMN leaves one out."""
    max_per_source: Count | None = None
    """Take at most this many rows from each source (a seeded sample)."""
    on_error: Literal["raise", "skip"] = "raise"
    """What to do with a row that cannot be used: stop, or write it to OUTPUT.rejects.jsonl and go on."""

    # --- What it becomes ---
    kind: Literal["judge", "likelihood", "scalar"] | None = None
    """What to adapt it as. Default: what it is; a model without labels so far (stage 1) becomes a judge."""
    template: str | None = None
    """Judge template: a built-in name or a JSON file. Default: that of the model, else the built-in one."""
    layout: Layout | None = None
    """judge: sequence reads two answers one behind the other; fan reads each answer by itself, once for all
    verdicts on it. Default: that of the model, else sequence."""

    reference: str | None = None
    """likelihood that was trained against a reference (DPO): where that is now."""

    # --- How it learns ---
    method: Literal["lora", "all", "frozen"] = "lora"
    """What trains: low-rank adapters, all weights, or the output head alone."""
    adapter: Literal["merged", "kept"] = "merged"
    """lora: save a whole model, or the adapter alone: a PEFT folder of a few MB that names its base."""
    learning_rates: list[Rate] = field(default_factory=list)
    """Rates to choose from. Default: two that suit the method."""
    max_steps: Count | None = None
    """Most optimizer steps to choose from. Default: by the number of rows."""
    batch_size: Count = 16
    """Rows per optimizer step."""
    token_budget: Count | None = None
    """Most tokens read in one forward pass: memory against speed. Default: by the free memory."""
    label_smoothing: Smoothing | None = None
    """eps: the probability given to the worse answer. Default: that of the model, else 0.1."""
    lora_rank: Rank = 16
    """Rank of the adapters."""
    lora_alpha: Count = 32
    """Scale of the adapters; their output is multiplied by alpha / rank."""
    folds: Folds = 5
    """Parts of the data that are held back in turn; the rows of one prompt or group stay together."""

    # --- How it runs ---
    seed: Seed = 0
    """Seed of adapters, data order and sampling."""
    dtype: Dtype = "auto"
    """Precision of the products, in training and in asking; weights in training stay fp32. auto: bf16 for a
    model at least 512 wide, on a GPU or a CPU that multiplies it in hardware (AMX); else fp32."""
    engine: Literal["tree", "plain"] = "tree"
    """tree: prefixes that rows share are read once; plain: each row by itself."""
    device: str | None = None
    """cpu or cuda. Default: cuda where there is one."""
    overwrite: bool = False
    """Replace a finished model in OUTPUT."""

    def __post_init__(self) -> None:
        """Check what can be checked without data or model.

        Raises:
            ConfigError: naming the option.
        """
        check_bounds(self)
        check_run_length(self.max_steps or 1, self.batch_size)
        if not self.data:
            raise ConfigError("data: give at least one source")
        if self.adapter == "kept" and self.method != "lora":
            raise ConfigError(f"adapter kept goes with method lora: {self.method} leaves no adapter to keep")
        for name in ("template", "reference"):
            if getattr(self, name) == "":
                raise ConfigError(f"{name} is empty: leave it out, or name one")
