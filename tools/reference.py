"""Writes the reference pages of the documentation from the parts themselves.

    python tools/reference.py [FOLDER]        docs/reference by default

`make docs` runs it before it builds the site. The pages are not committed: they follow from the
code alone, so a copy could only be stale, and every change of an option's help would be a change
of two files. It needs neither torch nor PEFT.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import logging
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import astraios
from astraios import methods, published, registry, tasks
from astraios.cli import app, parts
from astraios.config import Config
from astraios.errors import AstraiosError, MethodError
from astraios.methods import Shape
from astraios.methods._architectures import ARCHITECTURES
from astraios.methods._placement import PLACEMENTS
from astraios.records import Execution, Findings, Outcome, Record
from astraios.tasks import Problem, Task

PACKAGE = Path(astraios.__file__).parent
REPOSITORY = Path(__file__).resolve().parents[1]
ROWS = REPOSITORY / "tests" / "tasks" / "rows"
"""A few rows of each benchmark: what a prompt looks like is shown on the first of them."""
SHOWN = ("gpt_bigcode", "llama")
"""Architectures whose targets are listed: one fused, one with separate projections."""
NOTE = "<!-- Written by tools/reference.py from the code; edit that. -->\n"


def cell(value: object) -> str:
    """`value` as one cell of a table; Python-Markdown leaves bars in code alone."""
    text = re.sub(r"\s*\n\s*", " ", str(value)).strip()
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.replace("|", "\\|") for part in parts)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; columns that are empty in every row are left out."""
    body = [[cell(value) for value in row] for row in rows]
    kept = [i for i, _ in enumerate(head) if i == 0 or any(row[i] for row in body)]
    lines = [[head[i] for i in kept], ["---"] * len(kept)]
    lines += [[row[i] for i in kept] for row in body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def code(value: object) -> str:
    """`value` in code type; empty for nothing."""
    text = str(value)
    return f"`{text}`" if text else ""


def docstring(module: str) -> str:
    """The docstring of a module, read without importing it, without its first line."""
    found = import_module(module).__doc__ or ""
    return inspect.cleandoc(found).partition("\n")[2].strip("\n")


def headline(module: str) -> str:
    """The first line of it."""
    return inspect.cleandoc(import_module(module).__doc__ or "").partition("\n")[0]


def markdown(text: str) -> str:
    """A docstring as Markdown: indented lines, whatever their depth, become blocks of code."""
    out: list[str] = []
    for block in re.split(r"\n\s*\n", text):
        lines = block.split("\n")
        indented = all(line.startswith("    ") for line in lines)
        out.append(f"```text\n{textwrap.dedent(block)}\n```" if indented else block)
    return "\n\n".join(out) + "\n" if text else ""


# --- command line -----------------------------------------------------------------------------


def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands below `command` that do something, with the words that call them."""
    children: Mapping[str, Any] = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in children.items():
        if not child.hidden:
            yield from commands(child, (*path, name))


def cli() -> str:
    """Every verb with its arguments and options."""
    out = ["# Command line\n", markdown(docstring("astraios.cli"))]
    for path, command in commands(typer.main.get_command(app), ("astraios",)):
        context = command.make_context(path[-1], [], resilient_parsing=True)
        usage = " ".join((*path, *command.collect_usage_pieces(context)))
        out += [f"## {' '.join(path[1:])}\n", f"{inspect.cleandoc(command.help or '')}\n"]
        out += [f"```text\n{usage}\n```\n"]
        rows = []
        for parameter in command.params:
            if getattr(parameter, "hidden", False) or parameter.name == "help":
                continue
            words = parameter.opts + parameter.secondary_opts
            if parameter.param_type_name == "argument":
                words = [parameter.metavar or (parameter.name or "").upper()]
            default = parameter.default
            if default is None or callable(default) or isinstance(default, bool):
                default = ""
            rows.append((", ".join(map(code, words)), code(default), parameter.help or ""))
        if rows:
            out.append(table(("argument", "default", "is"), rows))
    return "\n".join(out)


# --- models -----------------------------------------------------------------------------------


def model_modules() -> list[str]:
    """Modules that define a config or a record, by the names of base classes; none is imported.

    Left out is what needs torch: it holds what a training keeps for itself.
    """

    def is_model(node: ast.stmt) -> bool:
        named = [b.id for b in getattr(node, "bases", []) if isinstance(b, ast.Name)]
        return any(n == "Record" or n.endswith(("Config", "Options")) for n in named)

    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        inside = path.relative_to(PACKAGE).with_suffix("").parts
        light = not re.search(r"^(import|from) (torch|peft)\b", text, re.MULTILINE)
        if light and any(map(is_model, ast.parse(text).body)):
            found.append(".".join(("astraios", *inside)).removesuffix(".__init__"))
    return found


def below(base: type[BaseModel]) -> list[type[BaseModel]]:
    """Public subclasses of `base` at any depth, by module and place in it."""
    found: dict[type[BaseModel], None] = {}
    waiting = list(base.__subclasses__())
    while waiting:
        one = waiting.pop()
        if not one.__name__.startswith("_") and one.__module__.startswith("astraios."):
            found[one] = None
        waiting += one.__subclasses__()

    # What is nearest to the package's own folder comes first: `records` before what stages add.
    def place(model: type[BaseModel]) -> tuple[int, str, int]:
        return model.__module__.count("."), model.__module__, inspect.getsourcelines(model)[1]

    return sorted(found, key=place)


def type_name(annotation: Any) -> str:
    """A type as it is written, without the names of modules."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(inner[0])
    if origin is Literal:
        return " | ".join(map(repr, inner))
    if origin in (Union, UnionType):
        return " | ".join(map(type_name, inner))
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(type_name, inner))}]"
    if annotation in (None, type(None)):
        return "None"
    return "..." if annotation is Ellipsis else getattr(annotation, "__name__", str(annotation))


def fields(model: type[BaseModel]) -> str:
    """A table of a model's fields."""
    rows = []
    for name, field in model.model_fields.items():
        default = "" if field.default is PydanticUndefined else repr(field.default)
        if field.default_factory is not None:
            default = repr(field.default_factory())  # type: ignore[call-arg]
        if len(default) > 60 or sys.prefix in default:  # long, or a path of this machine
            default = "see the class"
        limits = [f"{k} {getattr(m, k)}" for m in field.metadata for k in ("ge", "gt", "le", "lt")
                  if hasattr(m, k)]  # fmt: skip
        words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
        said = ", ".join(f"{words[one.split()[0]]} {one.split()[1]}" for one in limits)
        extra = field.json_schema_extra
        speed = "Operational." if isinstance(extra, dict) and extra.get("operational") else ""
        said = " ".join(filter(None, (field.description, f"{said}." if said else "", speed)))
        kind = "" if field.is_required() else code(default)
        rows.append((code(name), code(type_name(field.annotation)), kind, said))
    return table(("field", "type", "default", "is"), rows)


def models(base: type[BaseModel], title: str, opening: str) -> str:
    """Every model of a kind with its fields."""
    for module in model_modules():
        import_module(module)
    found = below(base)
    names = [model.__name__ for model in found]
    out = [f"# {title}\n", f"{opening}\n"]
    for model in found:
        module = model.__module__.removeprefix("astraios.")
        twice = names.count(model.__name__) > 1
        out.append(f"## {model.__name__}{f' ({module})' if twice else ''}\n")
        out += [f"{markdown(inspect.cleandoc(model.__doc__ or ''))}", f"In `{module}`.\n"]
        if model.model_fields:
            out.append(fields(model))
    return "\n".join(out)


def configs() -> str:
    """What a user writes."""
    return models(
        Config,
        "Configs",
        "What is written in YAML, or behind a command as `field=value`. Unknown fields are refused "
        "with the nearest known one; a complaint names file and line. *Operational* fields change "
        "how fast something is done and no record, so they are no part of a run's name. Fields "
        "without a default have to be given.",
    )


def records() -> str:
    """What is on disk."""
    return models(
        Record,
        "Records",
        "What is written to run folders. All refuse unknown fields, so that a file of another "
        "version is noticed. Counts begin with `n_`, units are suffixes.",
    )


# --- methods ----------------------------------------------------------------------------------


def base_shape(size: published.Size) -> Shape:
    """Sizes of a StarCoderBase: LayerNorms with biases, and a bias in every linear layer."""
    d, kv, inner = size.hidden, size.hidden // size.n_heads, 4 * size.hidden
    norms = 2 * d * (2 * size.n_layers + 1)
    biases = size.n_layers * (d + 2 * kv + d + inner + d) + norms // 2
    return Shape("gpt_bigcode", size.n_layers, d, inner, kv, size.n_parameters,
                 norms=norms, biases=biases)  # fmt: skip


def targets(name: str, architecture: str) -> str:
    """Where a method sits in a block of an architecture."""
    block = ARCHITECTURES[architecture]
    if name in PLACEMENTS:
        kinds = PLACEMENTS[name].layers(block)
        return ", ".join(f"`{path}` ({kind})" for path, kind in kinds.items())
    found = getattr(methods.method(name), "targets", None)
    given = found(block) if found else {}
    said = [f"{key} {code(', '.join(value) if not isinstance(value, str) else value)}"
            for key, value in given.items()]  # fmt: skip
    return "; ".join(said).replace("target_modules ", "")


def method_pages() -> str:
    """Every method: equation, paper, targets, number of parameters, options."""
    out = [
        "# All methods\n",
        "Equations and formulas are those of the files in `methods/`. Trained parameters are "
        "what the formula gives with the defaults at the sizes of StarCoderBase. What sets these "
        "methods apart, and what each keeps: [Methods](../methods.md).\n",
    ]
    for name in registry.builtin_names(methods):
        method = methods.method(name)
        module = f"astraios.methods.{name}"
        out += [f"## {name}\n", f"**{headline(module)}**\n", markdown(docstring(module))]
        rows = [("paper", method.paper)]
        rows += [(f"sits in `{a}` at", targets(name, a)) for a in SHOWN if targets(name, a)]
        try:
            counts = [(size.name, method.n_trainable(base_shape(size))) for size in published.SIZES]
            said = ", ".join(f"{size} {n:,}" for size, n in counts)
        except MethodError as error:
            said = f"no formula for these: {error}"
        rows.append(("trained parameters", said))
        defaults = getattr(method, "defaults", {})
        rows.append(("defaults", ", ".join(code(f"{k}={v!r}") for k, v in defaults.items())))
        rows.append(("further options", ", ".join(map(code, getattr(method, "more_options", ())))))
        rows.append(("can be merged", "yes" if method.mergeable else "no"))
        traits = {
            "trains_base": "trains weights of the base",
            "adds_tokens": "puts virtual tokens before a row",
        }
        said = "; ".join(words for trait, words in traits.items() if getattr(method, trait))
        rows.append(("it", said if method.batched else f"{said}; no generation by the engines"))
        out.append(table((method.title, "of the method"), [row for row in rows if row[1]]))
    block = [
        (code(name), code(", ".join(one.attention_in)), code(one.attention_out),
         code(", ".join(one.mlp_in)), code(one.mlp_out))
        for name, one in ARCHITECTURES.items()
    ]  # fmt: skip
    head = ("architecture", "reads for attention", "writes for attention", "reads for the MLP",
            "writes for the MLP")  # fmt: skip
    return "\n".join(
        [*out, "## Architectures\n", "Layers of one block, by role.\n", table(head, block)]
    )


# --- tasks ------------------------------------------------------------------------------------


def example(task: Task[Any]) -> tuple[Task[Any], Sequence[Problem]] | None:
    """Problems of a task, or of its edition of which there are rows at hand."""
    for edition in (None, *task.editions):
        one = task.edition(edition) if edition else task
        try:
            return one, one.problems(ROWS)
        except AstraiosError:
            continue
    return None


def metrics(task: Task[Any], problems: Sequence[Problem]) -> tuple[list[str], list[str]]:
    """Names of the scores that a task gives, and of those that come with a chance level."""
    evidence = {None: None, "security": Findings()}.get(
        task.checker, Execution(outcome=Outcome.PASSED)
    )
    verdicts = []
    for problem in problems:
        turns: tuple[str, ...] = ("",)
        while task.prompt(problem, turns, task.template) is not None:
            turns = (*turns, "")
        verdicts.append(task.verdict(problem, 0, turns, evidence))
    scores = task.scores(verdicts)
    names = dict.fromkeys(score.metric for score in scores)
    guessed = dict.fromkeys(score.metric for score in scores if score.chance is not None)
    return list(names), list(guessed)


def task_pages() -> str:
    """Every task: protocol, prompt, metrics, chance level."""
    logging.getLogger("astraios").setLevel(logging.ERROR)
    out = [
        "# All tasks\n",
        "The protocol of each is what is asked unless a command or a study says otherwise. "
        "Prompts are those of the first of a few rows kept with the tests. A metric *with "
        "chance* is given beside what the best guess gets that never looks at the problem; a pass "
        "rate has no such level, for nothing is passed by guessing. "
        "[What each score means](../scores.md).\n",
    ]
    for part in registry.builtin_names(tasks):
        module = f"astraios.tasks.{part}"
        out += [f"## {part}\n", f"**{headline(module)}**\n", markdown(docstring(module))]
        found = {name: tasks.task(name) for name in registry.load(tasks, "NAMES", part)}
        rows, shown = [], None
        for name, task in found.items():
            s = task.sampling
            drawn = f"{s.n_samples} at {s.temperature:g}, top-p {s.top_p:g}"
            editions = ", ".join(map(code, task.editions[:4]))
            more = f", {len(task.editions) - 4} more" if len(task.editions) > 4 else ""
            rows.append((
                code(name), code(task.version), editions + more, code(task.template),
                "greedy" if s.temperature == 0 else drawn, s.max_new_tokens,
                ", ".join(task.languages), task.checker or "reads the text",
                task.data_name or "in the package",
            ))  # fmt: skip
            shown = shown or example(task)
        head = ("task", "version", "editions, the first is the default", "template", "drawn",
                "new tokens", "toolchain", "checker", "data")  # fmt: skip
        out.append(table(head, rows))
        if shown is None:
            raise AstraiosError(f"no rows of task {part} in {ROWS}: no prompt can be shown")
        task, problems = shown
        names, guessed = metrics(task, problems)
        out.append(f"Metrics: {', '.join(map(code, names))}.\n")
        with_chance = ", ".join(map(code, guessed))
        out.append(f"With chance: {with_chance}.\n" if guessed else "None has a chance level.\n")
        prompt = task.prompt(problems[0], (), task.template)
        if prompt is not None:
            out.append(f"The prompt of {task.name} for `{prompt.problem_id}`:\n")
            out.append(f"````text\n{prompt.text}\n````\n")
    return "\n".join(out)


# --- the other parts --------------------------------------------------------------------------


def other_parts() -> str:
    """Every part of the other kinds, with what its file says of it."""
    out = ["# Other parts\n", "`astraios list KIND` shows them, and what is missing to use them.\n"]
    for kind in parts.kinds():
        if kind in ("methods", "tasks"):
            continue
        rows = parts.rows(kind)
        out.append(f"## {kind}\n")
        if kind in parts.PACKAGES:
            out.append(markdown(headline(parts.PACKAGES[kind])))
        head = [key for key in rows[0] if key != "missing"]
        out.append(table(head, [[code(row["name"]), *(row[k] for k in head[1:])] for row in rows]))
    return "\n".join(out)


PAGES: Mapping[str, Callable[[], str]] = {
    "cli.md": cli,
    "configs.md": configs,
    "records.md": records,
    "methods.md": method_pages,
    "tasks.md": task_pages,
    "parts.md": other_parts,
}


def write(folder: Path) -> None:
    """All pages, in place of those of an earlier run; whatever else is there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        if NOTE in old.read_text(encoding="utf-8"):
            old.unlink()
    for name, page in PAGES.items():
        text = page()
        title, _, rest = text.partition("\n")
        (folder / name).write_text(f"{title}\n\n{NOTE}{rest}", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=REPOSITORY / "docs" / "reference")
    write(parser.parse_args().folder)
