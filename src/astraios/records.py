"""Every type that is written to a run folder.

All records are frozen and refuse unknown fields, so a reader notices a file from another version.
The field docstrings give meaning, unit and limits.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Record(BaseModel):
    """A frozen record; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _as_utf8(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        # UTF-16, because it joins the two halves of a pair and counts a lone half as one character
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


Text = Annotated[str, BeforeValidator(_as_utf8)]
"""Text that came from outside: lone surrogates become U+FFFD, so it is always valid UTF-8."""


# --- data -------------------------------------------------------------------------------------


class Message(Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Text


class InstructionRecord(Record):
    """One example to tune on."""

    id: str
    instruction: Text
    """What is asked."""
    opening: Text = ""
    """The first part of the answer that a prompt would already give, such as a declaration."""
    response: Text
    """The rest of the answer: what the model has to write."""
    source: str
    """Name of the corpus the record came from."""
    language: str | None = None
    messages: tuple[Message, ...] = ()
    """The whole conversation, for the template `chat`; empty: the instruction and its answer."""


# --- generation -------------------------------------------------------------------------------


class Sampling(Record):
    """How completions are drawn."""

    n_samples: int = Field(default=20, ge=1)
    """Completions per problem."""
    temperature: float = Field(default=0.2, ge=0)
    """Softmax temperature; 0 means greedy, and then `n_samples` must be 1."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus mass kept."""
    max_new_tokens: int = Field(default=1024, ge=1)
    """Upper bound on generated tokens, prompt not counted."""
    seed: int = 0
    """Every completion has its own random stream, derived from this, its problem and its index."""

    @model_validator(mode="after")
    def _greedy_draws_once(self) -> Sampling:
        if self.temperature == 0 and self.n_samples != 1:
            raise ValueError("temperature 0 is greedy, all samples are equal; set n_samples to 1")
        return self


class Prompt(Record):
    """What a model is asked."""

    problem_id: str
    turn: int = 0
    """0 for the first question of a problem; later turns depend on earlier completions."""
    index: int | None = None
    """The sample this turn belongs to; None when all samples share the prompt."""
    text: str
    stops: tuple[str, ...] = ()
    """Generation may end once one of these occurs in the completion."""
    kind: Literal["completion", "infill", "chat"] = "completion"
    """`chat`: the text is a conversation in the model's own spelling, special tokens and all; a
    tokenizer adds none. Before an engine has spelled it, it is the messages as JSON."""
    max_length: int | None = Field(default=None, ge=1)
    """Tokens of prompt and completion together: the beginning of a longer prompt is left out, and
    one token may be drawn all the same. None: the model's context, and nothing is left out."""
    answers: tuple[str, ...] = ()
    """Texts whose likelihoods after the prompt are wanted too, of engines that can tell them."""


class Finish(StrEnum):
    """Why a completion ended."""

    EOS = "eos"
    STOP = "stop"
    LENGTH = "length"
    GIVEN = "given"
    """Imported: the completion is a final text, prompt in front, judged as it stands."""
    FAULT = "fault"
    """The engine gave no answer, try as it might; asked again by the next run of the command."""


class Sample(Record):
    """One completion, as it came out of the engine."""

    problem_id: str
    index: int
    """0 .. n_samples - 1."""
    turn: int = 0
    prompt_sha: str
    """First 16 hex digits of the SHA-256 of the prompt's text."""
    completion: Text
    """Raw text after the prompt; cutting it is the task's business."""
    finish: Finish
    n_prompt_tokens: int = 0
    """Of the prompt as it was read: what was cut off is not among them."""
    n_completion_tokens: int = 0
    n_cut_tokens: int = 0
    """Tokens left out at the beginning of a prompt that was longer than the context."""
    fault: Text | None = None
    """Why there is no answer; with `finish` fault, and an empty completion, only."""
    likelihoods: dict[str, float] | None = None
    """Each of the prompt's `answers` -> its log-likelihood in nats, with the first sample of a
    prompt; None where the engine gave none, or the answers do not fit the model's context."""


class Parity(Record):
    """How greedy tokens of an engine compare with those of the reference engine, `hf`."""

    engine: str
    outcome: Literal["equal", "skipped"]
    """`skipped`: nobody compared them, because the config says so."""
    task: str = ""
    """The task whose prompts were asked."""
    precision: str = ""
    by: Literal["id", "text"] = "id"
    """Whether tokens were compared by number, or what they spell, as an engine tells no numbers."""
    n_prompts: int = 0
    n_tokens: int = 0
    """Tokens that both engines chose."""
    n_ties: int = 0
    """Prompts whose comparison ended where two tokens are equally probable up to `tie_tolerance`:
    which of them is taken says nothing."""
    largest_difference: float | None = None
    """Of one token's log-probability under the two engines, in nats; None without such a token."""
    tie_tolerance: float = 0.0
    """Nats."""
    tolerance: float = 0.0
    """The most that `largest_difference` may be, in nats."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Of the packages it was found with."""
    environment: dict[str, str] = Field(default_factory=dict)
    """What the engine says of itself."""


# --- judging ----------------------------------------------------------------------------------


class Program(Record):
    """Something to run: untrusted `code`, then trusted `tests`."""

    language: str
    code: str
    """The candidate, language changes (imports, headers) applied."""
    tests: str = ""
    """The reference that follows it; reaching its end is a pass."""

    @property
    def text(self) -> str:
        """The whole program as the BigCode harness assembles it."""
        return f"{self.code}\n{self.tests}"


class Outcome(StrEnum):
    """What became of one completion. Never a bool: only some of these are the model's doing."""

    PASSED = "passed"
    FAILED = "failed"
    """It ran and gave a wrong answer or raised."""
    COMPILE_ERROR = "compile_error"
    CRASHED = "crashed"
    """It died: a signal, an early exit, or a flood of output."""
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    FORGED = "forged"
    """It reported a pass that it did not earn; never counted as one."""
    UNPARSED = "unparsed"
    """No answer could be read out of the completion."""
    VULNERABLE = "vulnerable"
    SAFE = "safe"
    FAULT = "fault"
    """Our own failure (no compiler, dead sandbox): retried, counted apart, never the model's."""


class Execution(Record):
    """Evidence from running one program."""

    outcome: Outcome
    phase: Literal["compile", "run"] = "run"
    message: Text = ""
    """The error as the program's language reports it, clipped to 200 characters."""
    exit_code: int | None = None
    signal: int | None = None
    stdout: Text = ""
    stderr: Text = ""
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_mib: float = 0.0


class Finding(Record):
    """One flaw that an analyser reports."""

    rule: str
    cwe: str
    file: str
    line: int
    message: Text


class Findings(Record):
    """Evidence from analysing one program."""

    findings: tuple[Finding, ...] = ()
    tool_version: str = ""
    others: tuple[str, ...] = ()
    """What other tools report of the program; it decides nothing."""


class Verdict(Record):
    """What was decided about one completion."""

    problem_id: str
    index: int
    group: str
    """Problems with one group are variants of each other (ReCode's seeds); else the problem id."""
    slice: str = ""
    """The part of the task the problem belongs to: a transformation, a CWE, a language."""
    outcome: Outcome
    answer: str | None = None
    expected: str | None = None
    readings: dict[str, str | None] | None = None
    """Name of another way to read the same completion -> the answer it gives, if it gives one."""
    log_odds: float | None = Field(default=None, allow_inf_nan=False)
    """Log-likelihood of the positive answer less that of the negative, where an engine gave it."""
    cwe: str | None = None
    detail: Text = ""
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_mib: float = 0.0


class Score(Record):
    """One number of one task."""

    task: str
    metric: str
    """`pass@1`, `robust-pass@1`, `accuracy`, ...; values are fractions."""
    slice: str = "all"
    value: float | None = Field(allow_inf_nan=False)
    """None when nothing could be counted."""
    low: float | None = None
    """Lower end of the 95 % interval over problems (bootstrap)."""
    high: float | None = None
    n_problems: int
    n_samples: int
    """Samples that were counted, faults left out."""
    n_faults: int = 0
    chance: float | None = Field(default=None, allow_inf_nan=False)
    """What the best guess gets that never looks at the problem; None where guessing has no rate."""
    against_chance: Literal["above", "below", "indistinguishable"] | None = None
    """Where the 95 % interval of the paired difference between value and chance lies."""
    caveat: str = ""
    """Why the number is a hint and no measurement; shown wherever it is."""


# --- training ---------------------------------------------------------------------------------


class Step(Record):
    """One optimizer step (or one validation) of a training or pretraining run."""

    step: int
    loss: float | None = None
    """Mean cross-entropy per target token over the steps since the last record, nats."""
    validation_loss: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    """L2 norm before clipping."""
    n_tokens: int = 0
    """Tokens seen so far, padding not counted."""
    tokens_per_s: float | None = None
    """Tokens per wall second since the last record."""
    peak_mib: float | None = None
    """Peak resident (CPU) or reserved (GPU) memory of the process so far."""
    peak_allocated_mib: float | None = None
    """Peak of what tensors took of a GPU's memory so far; None without one."""


class Cost(Record):
    """What a run cost."""

    wall_s: float
    cpu_s: float
    n_tokens: int
    tokens_per_s: float
    peak_mib: float
    """Of the process (CPU), or reserved on the first GPU."""
    peak_allocated_mib: float | None = None
    """Of the above, what tensors took of a GPU; None without one."""
    trainable_parameters: int = 0
    total_parameters: int = 0
    adapter_bytes: int = 0
    """Bytes of the saved weights on disk."""
    device_s: float | None = None
    """Wall seconds times devices."""
    flops: float | None = None
    """Floating-point operations of training on the tokens above, counted on the first step."""
    mfu: float | None = None
    """Share of the devices' matrix-product rate, measured on this machine, that training used."""
    gradient_mib: float | None = None
    optimizer_mib: float | None = None
    """What the optimizer remembers, one device's."""
    energy_j: float | None = None
    """Joules by the meters of processor or GPU; None where none can be read."""


# --- run folders ------------------------------------------------------------------------------


class RunKind(StrEnum):
    """What a run folder holds."""

    PRETRAIN = "pretrain"
    DATA = "data"
    PACK = "pack"
    TRAIN = "train"
    GENERATE = "generate"
    JUDGE = "judge"
    SEARCH = "search"
    """A learning rate chosen among trainings that tried several."""
    STUDY = "study"


class Code(Record):
    """Which code wrote a run."""

    version: str
    commit: str | None = None
    dirty: bool | None = None


class Manifest(Record):
    """The label of a run folder. No absolute paths, no user or host names."""

    format: int = 1
    run_id: str
    kind: RunKind
    fingerprint: str
    config: dict[str, Any]
    inputs: dict[str, str] = Field(default_factory=dict)
    """Name -> run id or data hash."""
    code: Code
    environment: dict[str, str] = Field(default_factory=dict)
    """Packages, toolchains, device, sandbox level."""
    started: str
    """ISO 8601, UTC."""
    finished: str | None = None
    status: Literal["running", "done"] = "running"
    counts: dict[str, float] = Field(default_factory=dict)


class PlannedJob(Record):
    """One line of a study's plan."""

    id: str
    """The job's run folder, relative to the study's."""
    kind: RunKind
    after: tuple[str, ...] = ()
    label: str = ""


class Trial(Record):
    """One line of a search's `trials.jsonl`: a learning rate that was tried."""

    rung: int
    """0 for the shortest trials, and for all of a grid."""
    learning_rate: float
    n_steps: int
    validation_loss: float | None = None
    """After the last step, nats a token; None where the training diverged."""
    diverged: Text = ""
    """What the training said when it gave up; empty where it did not."""
    run: str
    """Folder of the training, relative to the study's."""


class Divergence(Record):
    """The `diverged.json` of a trial whose loss exploded: it is sealed, and has no weights."""

    message: Text


class ChosenRate(Record):
    """A search's `chosen.json`: the learning rate that the trainings take."""

    base_model: str
    method: str
    learning_rate: float
    validation_loss: float
    """Of the trial that won."""
    on: str
    """What decided."""
    how: str
    rates: tuple[float, ...]
    """All that were tried, lowest first."""
    ranking: tuple[float, ...]
    """Rates of the last rung, best first, those that diverged behind."""
    n_trials: int
    """Over all rungs."""
    n_diverged: int
    at_edge: Literal["", "low", "high"] = ""
    """Whether a better rate may lie beyond those that were tried."""
    warning: str = ""
    """What `at_edge` means for a reader; empty without."""


class Calibration(Record):
    """One line of a study's `calibration.jsonl`: a few steps of a training, measured."""

    base_model: str
    method: str
    fingerprint: str
    """Of the training's config without its seed and learning rate: what time does not depend on."""
    flops_per_token: float
    tokens_per_s: float
    n_tokens: int
    """Of the whole training."""
    peak_mib: float | None
    """Most that tensors took, of one device."""
    device: str
    """What it was measured on: `cpu`, or the GPU's name."""
    n_devices: int
    when: str
    """ISO 8601, UTC."""


class JobFailure(Record):
    """One line of a study's `failures.jsonl`: a job that failed and was not done since."""

    job: str
    """Its run folder, relative to the study's."""
    message: Text
    """What went wrong; no absolute path and no name of a host."""
    when: str
    """ISO 8601, UTC."""


class ArmFacts(Record):
    """One line of a study's `arms.jsonl`: facts of a tuned model that was not trained here."""

    model: str
    """Name of the base model."""
    method: str
    trainable_parameters: int
    total_parameters: int
    """Of the base model, without what the method added."""
    source: str
    """How it is known: by the method's formula, by the model's card."""


# --- what a report shows ----------------------------------------------------------------------


class ProblemCard(Record):
    """What a report shows of one problem beside its verdicts."""

    id: str
    group: str
    slice: str = ""
    title: Text = ""
    """A few words: the function's name, the scenario."""
    reference: Text = ""
    """The reference solution, as it would be run; empty where there is none."""
    tests: Text = ""
    """The tests that decide; empty where the verdict reads the text."""
