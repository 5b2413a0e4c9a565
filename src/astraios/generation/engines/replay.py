"""Completions that were made before: from a run's `samples.jsonl`, or from lists in a JSON file.

    samples.jsonl   one `Sample` a line; found by (problem, index, turn)
    lists           `[["first of problem 0", "second", ...], ["first of problem 1", ...], ...]`,
                    the BigCode harness's format: the i-th list answers the i-th problem asked

Either may be compressed (`.gz`). What the conversations of template `chat` look like in the model's
spelling is taken from the run's `prompts.jsonl` beside its samples.
"""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from pydantic import ValidationError

from astraios.errors import ConfigError, GenerationsError, MissingDataError
from astraios.files import read_records
from astraios.generation import Engine, Finished, Key, Model
from astraios.generation.keys import check_distinct, key, prompt_sha, wanted
from astraios.records import Finish, Prompt, Sample, Sampling

PROMPTS = "prompts.jsonl"

log = logging.getLogger(__name__)


@final
class ReplayEngine(Engine):
    """Answers from a file. What a `finished` rule would have cut off is left on.

    Args:
        path: a `.jsonl` file of samples or a `.json` file of lists; `.gz` may follow.

    Raises:
        MissingDataError: if there is no such file.
        GenerationsError: if it is neither of the two.
    """

    name = "replay"
    hosts = "every method"
    runs_model = False

    def __init__(self, path: Path) -> None:
        self._path = path
        text = _read(path)
        suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
        self._samples: Mapping[Key, Sample] | None = None
        self._lists: Sequence[Sequence[str]] = ()
        self._prompts: Mapping[tuple[str, int, int | None], Prompt] | None = None
        if suffixes and suffixes[-1] == ".jsonl":
            self._samples = _samples(path, text)
        else:
            self._lists = _lists(path, text)

    @classmethod
    def supports(cls, method: str) -> bool:
        """Every method: no model is run."""
        return True

    @classmethod
    def check(cls, model: Model) -> None:
        """See `Engine.check`; the file has to be named."""
        unknown = sorted(set(model.options) - {"file"})
        if unknown or "file" not in model.options:
            said = f"has no option {unknown[0]!r}" if unknown else "needs the option 'file'"
            raise ConfigError(
                f"engine replay {said}; give engine_options.file=PATH, a file of completions"
            )

    @classmethod
    def open(cls, model: Model) -> ReplayEngine:
        """Read the file that option `file` names."""
        cls.check(model)
        return cls(Path(model.options["file"]))

    def complete(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        finished: Finished | None = None,
        skip: frozenset[Key] = frozenset(),
        progress: Callable[[int], Any] | None = None,
    ) -> Iterator[Sample]:
        """See `Engine.complete`; samples come in the order of the prompts.

        Raises:
            GenerationsError: naming the problem that has no completion, too few of them, or one
                that answers another prompt.
        """
        check_distinct(prompts)
        if self._samples is None:
            found = self._from_lists(prompts, sampling, skip)
        else:
            found = self._from_samples(self._samples, prompts, sampling, skip)
        for sample in found:
            if progress is not None:
                progress(sample.n_completion_tokens)
            yield sample

    def spelled(self, prompt: Prompt) -> Prompt:
        """See `Engine.spelled`; a conversation as the run beside the file spelled it.

        Raises:
            ConfigError: if there is no `prompts.jsonl` beside it.
            GenerationsError: if that holds another prompt.
        """
        if prompt.kind != "chat":
            return prompt
        if self._prompts is None:
            self._prompts = self._asked()
        known = self._prompts.get((prompt.problem_id, prompt.turn, prompt.index))
        if known is None or not _says(known, prompt):
            raise GenerationsError(
                f"{self._path.parent / PROMPTS}: problem {prompt.problem_id!r} was asked "
                f"{'nothing' if known is None else 'another question'} in turn {prompt.turn}; use "
                "the template and the task version the file was made with"
            )
        return prompt.model_copy(update={"text": known.text})

    def _asked(self) -> dict[tuple[str, int, int | None], Prompt]:
        path = self._path.parent / PROMPTS
        if self._samples is None or not path.is_file():
            raise ConfigError(
                f"engine replay: template chat needs a samples.jsonl with its run's {PROMPTS} "
                f"beside it, which says how conversations were spelled, and {str(self._path)!r} "
                "has none; give the file in its run folder, or grade it: "
                f"astraios grade {self._path} --task TASK"
            )
        found = read_records(path, Prompt)
        return {(prompt.problem_id, prompt.turn, prompt.index): prompt for prompt in found}

    def _from_samples(
        self,
        samples: Mapping[Key, Sample],
        prompts: Sequence[Prompt],
        sampling: Sampling,
        skip: frozenset[Key],
    ) -> Iterator[Sample]:
        for prompt in prompts:
            sha = prompt_sha(prompt.text)
            for index in wanted(prompt, sampling, skip):
                sample = samples.get((prompt.problem_id, index, prompt.turn))
                if sample is None:
                    raise GenerationsError(
                        f"{self._path}: no completion for problem {prompt.problem_id!r}, sample "
                        f"{index}, turn {prompt.turn}; {sampling.n_samples} a problem are expected"
                    )
                if sample.prompt_sha != sha:
                    raise GenerationsError(
                        f"{self._path}: problem {prompt.problem_id!r} was answered to another "
                        "prompt; use the template and the task version the file was made with"
                    )
                yield sample

    def _from_lists(
        self, prompts: Sequence[Prompt], sampling: Sampling, skip: frozenset[Key]
    ) -> Iterator[Sample]:
        asked = list(dict.fromkeys(prompt.problem_id for prompt in prompts))
        if len(self._lists) < len(asked):
            raise GenerationsError(
                f"{self._path}: {len(self._lists)} lists of completions for {len(asked)} problems; "
                "the file belongs to another task, or is cut off"
            )
        if len(self._lists) > len(asked):
            log.warning(
                "%s: %d lists, the first %d are used", self._path, len(self._lists), len(asked)
            )
        place = {problem_id: number for number, problem_id in enumerate(asked)}
        for prompt in prompts:
            if prompt.turn:
                raise GenerationsError(
                    f"{self._path}: lists hold answers to first questions only, and problem "
                    f"{prompt.problem_id!r} has a second; use a samples.jsonl file"
                )
            given = self._lists[place[prompt.problem_id]]
            for index in wanted(prompt, sampling, skip):
                if index >= len(given):
                    raise GenerationsError(
                        f"{self._path}: list {place[prompt.problem_id]} (problem "
                        f"{prompt.problem_id!r}) has {len(given)} completions, "
                        f"{sampling.n_samples} are expected"
                    )
                yield Sample(
                    problem_id=prompt.problem_id,
                    index=index,
                    prompt_sha=prompt_sha(prompt.text),
                    completion=given[index],
                    finish=Finish.GIVEN,
                )


engine = ReplayEngine


def _says(known: Prompt, asked: Prompt) -> bool:
    """Whether `known` is the conversation `asked`, in whatever spelling."""
    if known.kind != "chat":
        return False
    contents = [message["content"].strip() for message in json.loads(asked.text)]
    return known.text == asked.text or all(content in known.text for content in contents)


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        return data.decode("utf-8")
    except FileNotFoundError:
        raise MissingDataError(f"generations file {str(path)!r} does not exist") from None
    except (OSError, EOFError, zlib.error) as error:  # gzip raises all three on damaged files
        raise GenerationsError(f"{path}: cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        raise GenerationsError(f"{path}: not UTF-8 text (byte {error.start})") from None


def _samples(path: Path, text: str) -> dict[Key, Sample]:
    found: dict[Key, Sample] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            sample = Sample.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise GenerationsError(
                f"{path}:{number}: not a sample ({field}: {first['msg']})"
            ) from None
        if key(sample) in found:
            raise GenerationsError(
                f"{path}:{number}: problem {sample.problem_id!r}, sample {sample.index}, turn "
                f"{sample.turn} is given twice"
            )
        found[key(sample)] = sample
    return found


def _lists(path: Path, text: str) -> list[list[str]]:
    try:
        lists = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GenerationsError(f"{path}: not JSON: {error}") from None
    if not isinstance(lists, list):
        raise GenerationsError(
            f"{path}: expected a list of lists of completions, found {type(lists).__name__}"
        )
    for number, given in enumerate(lists):
        if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
            raise GenerationsError(f"{path}: entry {number} is not a list of strings")
    return lists
