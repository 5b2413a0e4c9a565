"""What a path in a tree of published outputs says: which model answered which task.

    humanevalfixtests-java/generations-humanevalfixtests-java-starcoderbase-1b-lora.json
    humanevalsynthesize-python/generations-humanevalsynthesizepython-starcoderbase-15b-ia3.json
    humanevalsynthesize-java/syn-java_generations_1b-fft.json
    recode-format/generations-humaneval-format-num_seeds_5-starcoderbase-7b-adapterh.json
    defect_detection_ablation/defect_generations_15b-adapterh_os.json
    generations_clone_detection_astraios-1b-lora.json
    aatk_dow/15b-lora.json.gz

A name ends in the model: size and method, with or without its family. What stands before that, or
else the folder, names the task. Letters are compared, signs and case are not. A word that is
neither is a reason to refuse the file: `codellama-7b-lora` is none of the models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType

from astraios import published, tasks
from astraios.errors import GenerationsError
from astraios.published import PublishedModel

__all__ = ["SIZES", "Named", "NotScoredError", "named", "stem"]

SUFFIXES = (".gz", ".jsonl", ".json")
SIZES = MappingProxyType(
    {"1b": "1b", "3b": "3b", "7b": "7b", "15b": "16b", "16b": "16b", "15-5b": "16b"}
)
"""How sizes are spelled -> name; 15b and 16b are the same model."""
LARGEST = published.SIZES[-1].name
"""What a family's name without a size means: `astraios-lora`, `starcoderbase-fft`."""

METHODS = MappingProxyType(
    {
        "lora": r"lora",
        "ptuning": r"p-?tuning",
        "ia3": r"ia-?3",
        "adapterh": r"adapter-?h|houlsby",
        "adapterp": r"adapter-?p|pfeiffer",
        "parallel": r"parallel-?adapter|adapter-?parallel|parallel",
        "fft": r"fft|full-?fine-?tun(?:ing|ed?)|full-?ft|full",
    }
)
"""Method -> how it is spelled in names whose signs are dashes."""
_METHOD = "|".join(f"(?P<{name}>{spelled})" for name, spelled in METHODS.items())
_SHOT = r"os|one-?shot|1-?shot"
_FAMILY = r"bigcode-(?:starcoderbase|astraios)|starcoderbase|starcoder|astraios"
_MODEL = re.compile(
    rf"(?:^|-)(?:(?P<family>{_FAMILY})-?)?(?:(?P<size>\d+(?:-\d+)?b)-?)?(?:{_METHOD})"
    rf"(?:-(?P<shot>{_SHOT}))?$"
)

LANGUAGES = MappingProxyType(
    {
        "python": "python",
        "py": "python",
        "javascript": "js",
        "java": "java",
        "js": "js",
        "cpp": "cpp",
        "go": "go",
        "rust": "rust",
    }
)
DESCRIPTIONS = "humanevalexplaindescribe"
KINDS = MappingProxyType(
    {
        "synthesize": ("humanevalsynthesize",),
        "synthesise": ("humanevalsynthesize",),
        "syn": ("humanevalsynthesize",),
        "fixtests": ("humanevalfixtests",),
        "fixtest": ("humanevalfixtests",),
        "fixdocs": ("humanevalfixdocs",),
        "fixdoc": ("humanevalfixdocs",),
        "fix": ("humanevalfixtests", "humanevalfixdocs"),
        "explainsynthesize": ("humanevalexplainsynthesize",),
        "explainsynthesise": ("humanevalexplainsynthesize",),
        "explainsyn": ("humanevalexplainsynthesize",),
        "explaindescribe": (DESCRIPTIONS,),
        "describe": (DESCRIPTIONS,),
        "explain": ("humanevalexplainsynthesize",),
    }
)
"""How a part of HumanEvalPack is spelled -> the tasks it may be; the file's contents decide."""
CATEGORIES = MappingProxyType(
    {
        "format": "format",
        "funcname": "function",
        "function": "function",
        "natgen": "syntax",
        "syntax": "syntax",
        "nlaugmenter": "docstring",
        "docstring": "docstring",
    }
)

ORIGINAL = "@original"
"""Edition of HumanEvalPack that the published outputs answer."""

_PACK = re.compile(
    rf"(?:humaneval(?:pack)?)?(?P<kind>{'|'.join(KINDS)})(?P<in>{'|'.join(LANGUAGES)})"
)
_RECODE = re.compile(
    rf"(?:recode|perturbed|humaneval)*(?P<category>{'|'.join(CATEGORIES)})(?:(?:num)?seeds(?P<n>\d+))?"
)
_YES_NO = re.compile(
    r"(?:code)?(?:(?P<devign>de[ft]ect(?:detection)?|devign)|(?P<clone>clone(?:detection)?|bigclonebench|bcb))"
    r"(?P<shot>os|oneshot|1shot|ablation)?"
)
_AATK = re.compile(r"(?:aatk|asleepatthekeyboard|asleepkeyboard|asleep)(?:completions?)?(?:dow)?")
_SCORES = re.compile(r"(?:evaluation|metrics?|results?|scores?)(?:results?)?(?P<rest>.*)")


class NotScoredError(GenerationsError):
    """A file that is known for what it is, and holds nothing that is scored by itself."""


@dataclass(frozen=True)
class Named:
    """What a path says."""

    model: PublishedModel
    tasks: tuple[str, ...]
    """Names of tasks, with their editions; several where only the contents tell."""


@dataclass(frozen=True)
class _Said:
    """What one name says of the task."""

    tasks: tuple[str, ...]
    one_shot: bool = False
    n_seeds: str | None = None


def named(path: PurePosixPath) -> Named:
    """What `path`, relative to the tree, says.

    Raises:
        NotScoredError: for what is known to hold no answers that are scored.
        GenerationsError: if it does not say both model and task; what it lacks, and a remedy.
    """
    slugs = [*map(_slug, path.parts[:-1]), _slug(stem(path.name))]
    scores = _SCORES.fullmatch(_letters(slugs[-1]))
    if scores and (not scores["rest"] or _MODEL.search(slugs[-1])):
        raise NotScoredError("holds scores, by its name, and no generations")
    found, before = _model_in(slugs)
    file = _task_in_name(before, slugs[:-1])
    folder = next(filter(None, map(_task, _folders(slugs[:-1]))), None)
    one_shot = bool(found["shot"]) or any(said.one_shot for said in (file, folder) if said)
    if file and folder:
        both = tuple(name for name in file.tasks if name in folder.tasks)
        if not both:
            raise GenerationsError(
                f"its name says {_listed(file)}, its folder {_listed(folder)}; rename it, or "
                "move it to the folder of its task"
            )
        seeds = file.n_seeds or folder.n_seeds
    elif file or folder:
        one = file or folder
        assert one is not None
        both, seeds = one.tasks, one.n_seeds
    else:
        raise GenerationsError(
            "neither its name nor its folder says which task it answers; name it like "
            "generations-humanevalsynthesize-python-starcoderbase-1b-lora.json"
        )
    if any(name.startswith(DESCRIPTIONS) for name in both):
        raise NotScoredError(
            "holds descriptions, the first step of HumanEvalExplain, which are not scored by "
            "themselves"
        )
    return Named(_published(found), tuple(_whole_name(name, one_shot, seeds) for name in both))


def stem(name: str) -> str:
    """A file's name without what says its format."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return name


# --- the model --------------------------------------------------------------------------------


def _model_in(slugs: Sequence[str]) -> tuple[re.Match[str], str]:
    """The match of the model in a file's name, or in folder and name, and what is before it."""
    for n in range(1, len(slugs) + 1):  # the name alone, then with one folder more: 1b/lora.json
        found = _MODEL.search("-".join(slugs[-n:]))
        if found and (found["family"] or found["size"]):
            at = found.start() - len("-".join(slugs[-n:])) + len(slugs[-1])
            return found, slugs[-1][: max(at, 0)]
    raise GenerationsError(
        "its name does not end in a model: a size (1b, 3b, 7b, 15b or 16b) and a method "
        f"({', '.join(published.METHODS)}), as in starcoderbase-1b-lora"
    )


def _published(found: re.Match[str]) -> PublishedModel:
    method = next(name for name in METHODS if found[name])
    size = found["size"] or LARGEST
    if size not in SIZES:
        known = ", ".join(name for name in SIZES if "-" not in name)
        raise GenerationsError(
            f"the paper has no model of size {size!r}; its sizes: {known} (the last two are one)"
        )
    return published.published(f"astraios-{SIZES[size]}-{method}")


# --- the task ---------------------------------------------------------------------------------


def _task_in_name(before: str, folders: Sequence[str]) -> _Said | None:
    """What a file's name says in front of the model; None if it says nothing."""
    letters = re.sub(r"generations?|outputs?", "", _letters(before))
    if not letters:
        return None
    said = _task(letters)
    if said is None and folders:
        said = _task(_letters(folders[-1]) + letters)  # humanevalsynthesize/python-1b-lora.json
    if said is None:
        raise GenerationsError(
            f"{before.strip('-')!r} in its name is no task and belongs to no model of the paper; "
            "see `astraios list tasks` and `astraios list models`"
        )
    return said


def _folders(slugs: Sequence[str]) -> Iterator[str]:
    """Letters of the folders' names, innermost first, each alone and then behind its parent's."""
    for place in reversed(range(len(slugs))):
        yield _letters(slugs[place])
        if place:
            yield _letters(slugs[place - 1]) + _letters(slugs[place])


def _task(letters: str) -> _Said | None:
    """The tasks that a name of letters and digits may be."""
    if pack := _PACK.fullmatch(letters):
        names = (f"{kind}-{LANGUAGES[pack['in']]}" for kind in KINDS[pack["kind"]])
        return _Said(tuple(f"{name}{ORIGINAL}" for name in names))
    if yes_no := _YES_NO.fullmatch(letters):
        name = "devign" if yes_no["devign"] else "bigclonebench"
        return _Said((name,), one_shot=bool(yes_no["shot"]))
    if _AATK.fullmatch(letters):
        return _Said(("aatk",))
    if (recode := _RECODE.fullmatch(letters)) and letters not in CATEGORIES:
        return _Said((f"recode-{CATEGORIES[recode['category']]}",), n_seeds=recode["n"])
    own = {_letters(name): name for name in tasks.names()}
    return _Said((own[letters],)) if letters in own else None


def _whole_name(name: str, one_shot: bool, n_seeds: str | None) -> str:
    if n_seeds and name.startswith("recode-"):
        name = f"{name}@seeds-{n_seeds}"
    if one_shot and name not in ("devign", "bigclonebench"):
        raise GenerationsError(f"its name says one example in the prompt; {name} has no such form")
    return f"{name}-oneshot" if one_shot else name


def _listed(said: _Said) -> str:
    return " or ".join(name.removesuffix(ORIGINAL) for name in said.tasks)


def _slug(text: str) -> str:
    """Lower case, with one dash for whatever is neither letter nor digit."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower().replace("c++", "cpp")).strip("-")


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", text)
