"""The training configuration: one documented dataclass is the flags, the YAML file and the docs at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from gram.asking import Dtype, EngineName, Layout
from gram.bounds import Count, LengthPower, Rank, Rate, Seed, Share, Smoothing, Within, check_bounds
from gram.config_file import READABLE_AS_MAPPING, read_config, replaces
from gram.errors import ConfigError

Stage = Literal["pretrain", "finetune"]
ObjectiveName = Literal["language", "preference", "scalar", "likelihood"]

DEFAULT_OBJECTIVE: dict[Stage, ObjectiveName] = {"pretrain": "language", "finetune": "preference"}

LONGEST_RUN = 10**8  # examples; their order is drawn before the first step and held in memory


@dataclass(frozen=True)
class TrainConfig:
    """Train a model: stage 1 on unlabeled answers (pretrain) or stage 2 on preferences (finetune)."""

    model: str
    """A folder, gram-135m, smollm2-135m, a Hub name, or preset:tiny|mini|light|small|base."""
    data: list[str]
    """Training data: files (.jsonl, .json, .csv, .parquet, ...), dataset folders or Hub names."""
    output: Path
    """Folder for the finished model; checkpoints of an unfinished run live in it too."""

    # --- Where the model comes from ---
    revision: str | None = None
    """Branch, tag or commit of a model on the Hub. Default: the newest."""
    base: str | None = None
    """Of a model that is an adapter (a PEFT folder): its base, in place of the one that it names."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Default: such a model is refused."""

    # --- What is learned ---
    stage: Stage = "finetune"
    """pretrain: learn what answers look like, without labels. finetune: learn from preferences."""
    objective: ObjectiveName | None = None
    """Loss; by default language for pretrain and preference for finetune."""

    # --- Data ---
    split: str | None = None
    """Use only this split of the training data."""
    columns: str | None = field(default=None, metadata=READABLE_AS_MAPPING)
    """Names of columns, of training and evaluation data: prompt=question,chosen=good; ignore=COLUMN."""
    eval_data: list[str] = field(default_factory=list)
    """Data to evaluate on while training; the saved checkpoint with the lowest loss on it is kept."""
    eval_split: str | None = None
    """Use only this split of the evaluation data."""
    max_per_source: Count | None = None
    """Take at most this many rows from each source (a seeded sample)."""
    max_eval_per_source: Count | None = 500
    """Take at most this many rows from each evaluation source."""
    pairs_per_prompt: Count = 1
    """Unlabeled pairs made from each prompt that has several responses."""
    on_error: Literal["raise", "skip"] = "raise"
    """What to do with a row that cannot be used: stop, or write it to OUTPUT/rejects.jsonl and go on."""

    # --- Prompts ---
    template: str | None = None
    """Judge template: a built-in name or a JSON file. Default: that of the model, else the built-in one."""
    max_length: Count | None = None
    """Most tokens per prompt. Default: as it was trained; of a raw model what it can read, at most 8192."""
    raw_control_tokens: bool = False
    """Leave control tokens inside prompts and answers as they are: for paper-exact runs."""
    layout: Layout | None = None
    """preference, and pairs of pretrain: sequence reads two answers one behind the other; fan reads each
    answer by itself, once for all verdicts on it. Default: that of the model, else sequence."""
    distil: str | None = None
    """preference: a judge whose verdicts take the place of labels, on all pairs of a prompt's answers (of
    more than 16, on 120 or those of the rows); they are soft, and not smoothed again."""
    context: Literal["chat", "judge"] | None = None
    """Where the likelihood objective asks for an answer. Default: that of the model, else chat; after
    pretrain judge, if any pair was among the data, and chat after single answers."""

    # --- Losses ---
    label_smoothing: Smoothing = 0.1
    """eps: the probability given to the worse answer (torch's label_smoothing is twice this)."""
    beta: Annotated[float, Within(1e-6, 1_000_000)] = 1.0
    """likelihood: slope of the log-odds in the score difference."""
    length_power: LengthPower = 0.0
    """likelihood: divide an answer's log-probability by its length to this power (1: mean per token)."""
    likelihood_form: Literal["ranking", "cross_entropy"] = "ranking"
    """likelihood: the smoothed ranking loss, or plain smoothed cross-entropy."""
    reference: str | None = None
    """likelihood: a frozen model whose score is subtracted (the DPO reward)."""
    margin: bool = False
    """scalar: ask for the margin that the data give."""
    centring: Annotated[float, Within(0, 1_000_000)] = 0.0
    """scalar: coefficient that keeps the scores of a pair centred at zero."""
    text_regulariser: Share = 0.0
    """scalar: share of the loss, in [0, 1), that keeps the language model under the score (GRM)."""
    text_form: Literal["sft", "dpo"] = "sft"
    """scalar: what the text regulariser asks: to write the better answer, or to find it the likelier one."""

    # --- Which weights learn ---
    freeze: bool = False
    """Train only the output head (and --unfreeze-layers) of a frozen model."""
    unfreeze_layers: Annotated[int, Within(0)] = 0
    """With --freeze: also train this many last layers."""
    lora: bool = False
    """Train low-rank adapters on a frozen model."""
    adapter: Literal["merged", "kept", "continued"] = "merged"
    """lora: save a whole model (merged), or the adapter alone: a PEFT folder of a few MB that names its base
    (kept). continued: the model is such a folder; train its adapter on, with its rank, and keep it."""
    lora_rank: Rank = 16
    """Rank of the adapters."""
    lora_alpha: Count = 32
    """Scale of the adapters; their output is multiplied by alpha / rank."""
    quantise: Literal["4bit"] | None = None
    """lora, with adapter kept, on a GPU: hold the frozen base in 4 bits (QLoRA, needs bitsandbytes)."""

    # --- Models from scratch ---
    vocab_size: Annotated[int, Within(262, 1_000_000)] | None = None
    """preset models: size of the vocabulary, with 256 bytes and 6 control tokens. Default: the preset's."""
    tokenizer_data: list[str] = field(default_factory=list)
    """preset models: train the tokenizer on these sources too, so that later stages find their words."""

    # --- Steps ---
    epochs: Annotated[float, Within(0, 1_000_000, open="low")] = 1.0
    """Passes over the data; ignored where max_steps is given."""
    max_steps: Count | None = None
    """Optimizer steps, in place of epochs."""
    batch_size: Count = 32
    """Examples per optimizer step, over all devices; how they are cut is token_budget."""
    token_budget: Count | None = field(default=None, metadata=replaces("micro_batch_size"))
    """Most tokens of one forward pass on one device: memory against speed. Default: by the free memory."""
    learning_rate: Rate = 1e-4
    """Peak learning rate of AdamW."""
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "cosine"
    """Learning-rate schedule after the warm-up."""
    warmup: Share = 0.05
    """Share of the steps in which the learning rate rises; a run of one step has the peak rate."""
    weight_decay: Annotated[float, Within(0, 100)] = 0.0
    """Weight decay of AdamW."""
    max_grad_norm: Annotated[float, Within(0)] = 1.0
    """Clip the gradient to this norm; 0: leave it as it is."""
    adam_beta2: Share = 0.999
    """Second-moment decay of AdamW."""
    # --- How it runs ---
    seed: Seed = 0
    """Seed of initial weights, data order and sampling."""
    dtype: Dtype = field(default="auto", metadata=replaces("bf16"))
    """Precision of the products; weights in training stay fp32. auto: bf16 for a model at least 512 wide, on
    a GPU or a CPU that multiplies it in hardware (AMX); else fp32."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    engine: Literal["tree", "plain"] = "tree"
    """tree: prefixes that the rows of a micro-batch share are read once; plain: each row by itself."""
    device: str | None = None
    """cpu or cuda. Default: cuda where there is one."""

    # --- Watching and saving ---
    log_steps: Count = 20
    """Log every so many steps."""
    eval_steps: Count | None = None
    """Evaluate every so many steps. Default: ten times in a run."""
    save_steps: Count | None = None
    """Save a checkpoint to resume from every so many steps. Default: as often as evaluation."""
    report_to: list[str] = field(default_factory=lambda: ["none"])
    """Experiment trackers, as in transformers (tensorboard, wandb, mlflow, ...). Their files stay in OUTPUT:
    those of tensorboard in OUTPUT/runs."""
    overwrite: bool = False
    """Replace a finished model, or an unfinished run with other settings, in OUTPUT."""

    def __post_init__(self) -> None:
        """Check what can be checked without data or model.

        Raises:
            ConfigError: naming the option.
        """
        check_bounds(self)
        check_run_length(self.max_steps or 1, self.batch_size)
        if not self.data:
            raise ConfigError("data: give at least one source")
        if (self.stage == "pretrain") != (self.objective_name == "language"):
            raise ConfigError(f"objective '{self.objective_name}' does not belong to stage '{self.stage}'")
        if self.freeze and self.lora:
            raise ConfigError("freeze and lora: choose one")
        self._check_adapter()
        if self.unfreeze_layers and not self.freeze:
            raise ConfigError("unfreeze_layers goes with freeze")
        if self.template == "":
            raise ConfigError("template is empty: leave it out, or name one")
        for name in ("margin", "centring", "text_regulariser"):
            if getattr(self, name) and self.objective_name != "scalar":
                raise ConfigError(f"{name} goes with objective scalar")
        if self.text_regulariser and self.freeze and not self.unfreeze_layers:
            raise ConfigError("text_regulariser changes nothing under a frozen model: add unfreeze_layers")
        if self.reference is not None and self.objective_name != "likelihood":
            raise ConfigError("reference goes with objective likelihood")
        if self.distil is not None and self.objective_name != "preference":
            raise ConfigError("distil goes with objective preference")
        if self.layout == "fan" and self.objective_name not in ("preference", "language"):
            raise ConfigError("layout fan is for judges: other models read one answer anyway")
        if self.objective_name == "preference":
            check_layout(self.layout, self.engine)

    def _check_adapter(self) -> None:
        if self.quantise and (not self.lora or self.adapter != "kept"):
            raise ConfigError(
                "quantise goes with lora and adapter kept; gram merge puts it into the whole base"
            )
        if self.adapter == "merged":
            return
        if not self.lora:
            raise ConfigError(
                f"adapter {self.adapter} goes with lora: without it there is no adapter to keep"
            )
        if self.model.startswith("preset:"):
            raise ConfigError(
                f"adapter {self.adapter}: {self.model} is made anew, and an adapter has to name its base"
            )

    @property
    def smoothing(self) -> float:
        """What labels are smoothed by: nothing where they are a judge's verdicts."""
        return 0.0 if self.distil is not None else self.label_smoothing

    @property
    def objective_name(self) -> ObjectiveName:
        return self.objective or DEFAULT_OBJECTIVE[self.stage]


def check_layout(layout: Layout | None, engine: EngineName) -> None:
    """Refuse a layout of a judge's prompts that the engine does not read.

    Raises:
        ConfigError: as said.
    """
    if layout == "fan" and engine == "plain":
        raise ConfigError("layout fan has an engine of its own: leave out engine plain")


def check_run_length(steps: int, batch_size: int) -> None:
    """Refuse a run whose order of training cannot be held in memory.

    Raises:
        ConfigError: too many steps of too many examples.
    """
    if steps * batch_size > LONGEST_RUN:
        raise ConfigError(
            f"{steps} steps of batch_size {batch_size} are more than {LONGEST_RUN:,} examples: "
            "lower epochs, max_steps or batch_size"
        )


def load_config(path: Path | str) -> TrainConfig:
    """A training configuration from a YAML file.

    Raises:
        ConfigError: naming the file and the option that is unknown, missing or of the wrong type.

    Example:
        >>> _ = Path("train.yaml").write_text("{model: preset:tiny, data: [pairs.jsonl], output: runs/mine}")
        >>> load_config("train.yaml").objective_name
        'preference'
    """
    return read_config(TrainConfig, Path(path))
