"""A model tuned by a chat template is asked in the bytes it was tuned on, as far as they go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")
pytest.importorskip("transformers", reason="needs transformers: pip install 'astraios[train]'")

from astraios import tasks
from astraios.data.chat import Chat
from astraios.evaluation.config import EvaluationConfig
from astraios.evaluation.export import export
from astraios.evaluation.generate import generate
from astraios.generation.engines.hf import HFEngine
from astraios.generation.keys import prompt_sha
from astraios.records import InstructionRecord, Prompt, Sample, Sampling
from astraios.templates import template

pytestmark = pytest.mark.train

ROWS = Path(__file__).parents[1] / "tasks" / "rows"

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_WITH_SYSTEM = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n"
    "{% endif %}" + CHATML
)
LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content + eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
THINKING = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
"""It opens a turn with more than the turns of a training text have."""

USUAL = {
    "chatml": CHATML,
    "chatml with a system message of its own": CHATML_WITH_SYSTEM,
    "llama 3": LLAMA_3,
    "zephyr": ZEPHYR,
    "mistral": MISTRAL,
}

CODE = st.text(st.sampled_from("ab {}\n\t\r%|<>:\u2028é'\\🌳"), max_size=30)
SPOKEN = CODE.filter(str.strip)


@pytest.fixture(scope="module")
def engine_of():
    """A tiny random model whose tokenizer has a chat template."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=256, n_positions=1024)
    model = GPT2LMHeadModel(config)
    return lambda chat_template: HFEngine(model, _tokenizer(chat_template))


@pytest.fixture(scope="module")
def texts(engine_of):
    """Both texts of one record: what it is asked with and what it is tuned on."""

    def made(chat_template, instruction, opening, response):
        tokenizer = _tokenizer(chat_template)
        record = InstructionRecord(
            id="0", instruction=instruction, opening=opening, response=response, source="test"
        )
        text = template("chat").prompt(record.instruction, record.opening)
        prompt = Prompt(problem_id="0", text=text, kind="chat")
        asked = engine_of(chat_template).spelled(prompt)
        assert asked.kind == "chat"
        return asked.text, Chat(tokenizer, "all").text(record).text

    return made


def _tokenizer(chat_template):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: n for n, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    inner = Tokenizer(models.BPE(vocab=letters, merges=[]))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", bos_token="<s>", chat_template=chat_template
    )


@pytest.mark.parametrize("name", USUAL)
@given(instruction=SPOKEN, opening=SPOKEN, response=SPOKEN)
def test_an_opened_answer_is_asked_as_it_was_trained(texts, name, instruction, opening, response):
    asked, trained = texts(USUAL[name], instruction, opening, response)
    assert trained.startswith(asked)
    assert asked == asked.rstrip()
    assert opening.strip() in asked


@pytest.mark.parametrize("name", USUAL)
@given(instruction=SPOKEN, response=SPOKEN)
def test_a_question_is_asked_as_it_was_trained(texts, name, instruction, response):
    asked, trained = texts(USUAL[name], instruction, "", response)
    assert trained.startswith(asked)
    assert instruction.strip() in asked


def test_golden_bytes_of_a_continued_turn(texts):
    asked, trained = texts(CHATML, "Add.", "\n\ndef add(a, b):\n", "    return a + b\n")
    assert asked == ("<|im_start|>user\nAdd.<|im_end|>\n<|im_start|>assistant\n\n\ndef add(a, b):")
    assert trained == asked + "\n    return a + b\n<|im_end|>\n"


def test_a_template_that_opens_turns_with_more_than_it_trains_on_asks_otherwise(texts):
    """What docs/templates.md says of such templates: with an opening all is well."""
    asked, trained = texts(THINKING, "Add.", "", "a + b")
    assert asked == "<|user|>Add.<|end|><|assistant|><think>\n"
    assert not trained.startswith(asked)
    asked, trained = texts(THINKING, "Add.", "def add(a, b):\n", "    return a + b")
    assert trained.startswith(asked)


@pytest.mark.parametrize("name", ["minipack-synthesize", "humanevalexplainsynthesize-python"])
def test_a_run_keeps_the_spelled_conversation(engine_of, tmp_path, name):
    task = tasks.task(name)
    problems = task.problems(ROWS)
    sampling = Sampling(n_samples=1, temperature=0.0, max_new_tokens=3)
    config = EvaluationConfig(
        task=name,
        task_version=task.version,
        template="chat",
        sampling=sampling,
        base_model="tiny",
        limit_problems=2,
    )
    engine = engine_of(CHATML)
    run = generate(
        task,
        engine,
        sampling,
        tmp_path / "run",
        config=config,
        problems=problems,
        template="chat",
        limit=2,
    )
    prompts = {(p.problem_id, p.turn): p for p in run.read("prompts", Prompt)}
    samples = list(run.read("samples", Sample))
    assert len(prompts) == len(samples) == 2 * (2 if "explain" in name else 1)
    for sample in samples:
        prompt = prompts[sample.problem_id, sample.turn]
        assert prompt.kind == "chat"
        assert prompt.text.startswith("<|im_start|>user\n")
        assert sample.prompt_sha == prompt_sha(prompt.text)
    export(run.folder, tmp_path / "out.json", "harness", data_dir=ROWS)
    texts = [text for texts in json.loads((tmp_path / "out.json").read_bytes()) for text in texts]
    heads = [task.head(problem).rstrip() for problem in problems[:2]]
    assert [text.startswith(head) for text, head in zip(texts, heads, strict=True)] == [True, True]
