"""How a model is asked, run and called: sets of options that everything shares.

The flags of the commands, ``gram.load``, ``gram.json``, fingerprints of runs and the evaluator all mean
these. ``Asking`` decides what a model is shown and how its answer becomes a score; ``Running`` decides where,
how fast and in which precision; ``Calling`` is for judges on other people's servers. Knows names and numbers;
knows no model.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import KW_ONLY, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args

from gram.bounds import Count, LengthPower, Within, check_bounds
from gram.errors import ConfigError

Kind: TypeAlias = Literal["judge", "likelihood", "scalar"]
Context: TypeAlias = Literal["chat", "judge"]
Baseline: TypeAlias = Literal["none", "unconditional"]
Layout: TypeAlias = Literal["sequence", "fan"]
EngineName: TypeAlias = Literal["tree", "plain"]
Dtype: TypeAlias = Literal["auto", "fp32", "bf16"]
Precision: TypeAlias = Literal["fp32", "bf16"]
"""What ``auto`` has become once the device and the model are known."""

KINDS: tuple[Kind, ...] = get_args(Kind)
LONGEST_PROMPT = 8192
"""Most tokens of a prompt, in training and scoring, where neither the options nor the model say less."""

_TORCH_NAMES = {"float32": "fp32", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Asking:
    """What a model is shown, and how its answer becomes a score.

    Raises:
        ConfigError: a value that is none of those named.

    Example:
        >>> Asking("likelihood", length_power=1.0)  # doctest: +ELLIPSIS
        Asking(kind='likelihood', template=None, max_length=None, ..., length_power=1.0, ...)
        >>> Asking("oracle")
        Traceback (most recent call last):
        gram.errors.ConfigError: kind must be one of judge, likelihood, scalar, got 'oracle'
    """

    kind: Kind | None = None
    """How to ask it. Default: as it was trained; a raw language model is a judge."""
    template: str | Path | None = None
    """Judge template: a built-in name or a JSON file. Default: that of the model."""
    _: KW_ONLY
    max_length: Count | None = None
    """Most tokens per prompt; longer ones lose the middle of their texts. Default: as in training; of a raw
    model what it reads, at most 8192."""
    neutralise: bool | None = None
    """Make control tokens inside prompts and answers harmless. Default: as in training; else yes."""
    layout: Layout | None = None
    """judge: sequence reads two answers one behind the other; fan reads each answer once, by itself, for all
    verdicts on it. Default: as in training; else sequence."""
    both_orders: bool = True
    """judge: ask each pair both ways; only as it is shown costs half, and the position bias stays in."""
    context: Context | None = None
    """likelihood: where an answer stands, in the chat format or as the first answer of the judge prompt.
    Default: as in training; else chat."""
    length_power: LengthPower | None = None
    """likelihood: divide by the answer's length to this power (1: mean per token)."""
    baseline: Baseline = "none"
    """likelihood: unconditional subtracts the score without the prompt (PMI)."""
    reference: str | Path | None = None
    """likelihood: a model whose score is subtracted (the DPO implicit reward)."""

    def __post_init__(self) -> None:
        check_bounds(self)
        _check("kind", self.kind, get_args(Kind), optional=True)
        _check("context", self.context, get_args(Context), optional=True)
        _check("layout", self.layout, get_args(Layout), optional=True)
        _check("baseline", self.baseline, get_args(Baseline))
        for name, value in (("template", self.template), ("reference", self.reference)):
            if value == "":
                raise ConfigError(f"{name} is empty: leave it out, or name one")

    @property
    def of_likelihoods(self) -> tuple[object, ...]:
        """The options that only a likelihood has, and that make other scores out of the same weights."""
        return (self.context, self.length_power, self.baseline, self.reference)


@dataclass(frozen=True)
class Running:
    """Where a model runs, how fast, in which precision, and whether with code of its own.

    Raises:
        ConfigError: a value that is none of those named.
    """

    _: KW_ONLY
    device: str | None = None
    """cpu or cuda. Default: cuda where there is one."""
    dtype: Dtype = "auto"
    """Precision of the weights. auto: bf16 for a model at least 512 wide, on a GPU or a CPU that multiplies
    it in hardware (AMX); else fp32."""
    engine: EngineName = "tree"
    """tree: prefixes that prompts share are read once; plain: each prompt by itself. Scores are the
    same, but for rounding."""
    token_budget: Count | None = None
    """Most tokens read in one forward pass: memory against speed. Default: by the free memory."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Default: such a model is refused."""

    def __post_init__(self) -> None:
        check_bounds(self)
        object.__setattr__(
            self, "dtype", dtype_name(self.dtype)
        )  # torch's own names, and its objects, will do
        _check("dtype", self.dtype, get_args(Dtype))
        _check("engine", self.engine, get_args(EngineName))


@dataclass(frozen=True)
class Calling:
    """How a remote judge is called (docs/remote.md): none of it changes a score but ``tokenizer``.

    Raises:
        ConfigError: a number that makes no sense, or an empty name.
    """

    _: KW_ONLY
    tokenizer: str | Path | None = None
    """remote judges that read tokens: model folder or Hub name, whose tokenizer, template and gram.json make
    the prompts here. Default: the server makes tokens of plain text."""
    connections: Annotated[int, Within(1, 1024)] = 16
    """remote judges: requests under way at once."""
    deadline: Annotated[float, Within(0.001, 86_400)] = 300.0
    """remote judges: seconds for one request, all tries together; one try gets a third of it."""
    spend: Count | None = None
    """remote judges: most tokens, read and written, to pay for in this run. Default: no limit."""
    cache: str | Path | None = None
    """remote judges: file that keeps the answers; what stands in it is not asked again. Default: none."""

    def __post_init__(self) -> None:
        check_bounds(self)
        for name, value in (("tokenizer", self.tokenizer), ("cache", self.cache)):
            if value == "":
                raise ConfigError(f"{name} is empty: leave it out, or name one")


@dataclass(frozen=True)
class LoadOptions(Calling, Running, Asking):
    """Where a model comes from: with how it is asked, run and called, all options of ``gram.load``."""

    _: KW_ONLY
    revision: str | None = None
    """Branch, tag or commit of a model on the Hub. Default: the newest."""
    base: str | Path | None = None
    """Of an adapter (a PEFT folder): its base model, in place of the one that it names."""

    def __post_init__(self) -> None:
        Asking.__post_init__(self)
        Running.__post_init__(self)
        Calling.__post_init__(self)
        if self.base == "":
            raise ConfigError("base is empty: leave it out, or name one")


@dataclass(frozen=True, kw_only=True)
class ModelFlags(LoadOptions):
    """How a model is asked, as flags: what is on by default is switched off by a flag."""

    model: str
    """Model folder, gram-135m (comes with the package), smollm2-135m (is fetched), or Hub name."""
    neutralise: bool | None = field(default=None, init=False)  # its flag is --raw-control-tokens
    both_orders: bool = field(default=True, init=False)  # its flag is --single-order
    raw_control_tokens: bool = False
    """Leave control tokens inside prompts and answers as they are: for paper-exact scores."""
    single_order: bool = False
    """judge: ask each pair only as it is shown: half the cost, and the position bias stays in."""

    @property
    def options(self) -> LoadOptions:
        """The options of ``gram.load`` that the flags mean."""
        values = {item.name: getattr(self, item.name) for item in fields(LoadOptions)}
        values["neutralise"] = False if self.raw_control_tokens else None
        values["both_orders"] = not self.single_order
        return LoadOptions(**values)


@dataclass(frozen=True, kw_only=True)
class NoCalling:
    """No flags for ``Calling``: to stand before ``ModelFlags`` in a command whose model is always here."""

    tokenizer: str | Path | None = field(default=None, init=False)
    connections: int = field(default=Calling.connections, init=False)
    deadline: float = field(default=Calling.deadline, init=False)
    spend: int | None = field(default=None, init=False)
    cache: str | Path | None = field(default=None, init=False)


def given(options: LoadOptions, *, but: Collection[str] = ()) -> list[str]:
    """The options, but some, that have another value than by default.

    Example:
        >>> given(LoadOptions("judge", spend=1000), but=["kind"])
        ['spend']
    """
    usual = LoadOptions()
    names = [item.name for item in fields(LoadOptions) if item.name not in but]
    return [name for name in names if getattr(options, name) != getattr(usual, name)]


def refuse_calling(options: LoadOptions) -> None:
    """Refuse the options of remote judges for a model that is none.

    Raises:
        ConfigError: naming them.
    """
    names = {item.name for item in fields(Calling)}
    if found := [name for name in given(options) if name in names]:
        raise ConfigError(f"{', '.join(found)}: for remote judges only (openai:MODEL@URL and others)")


def dtype_name(dtype: object) -> str:
    """Our name of a precision that torch names; any other stays as torch calls it.

    Example:
        >>> dtype_name("torch.bfloat16"), dtype_name("fp32"), dtype_name("torch.float16")
        ('bf16', 'fp32', 'float16')
    """
    name = str(dtype).removeprefix("torch.")
    return _TORCH_NAMES.get(name, name)


def _check(name: str, value: object, known: tuple[str, ...], *, optional: bool = False) -> None:
    if not (value in known or (optional and value is None)):
        raise ConfigError(f"{name} must be one of {', '.join(known)}, got '{value}'")
