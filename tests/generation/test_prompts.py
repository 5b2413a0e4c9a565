"""Prompts on their way into engine hf: too long, conversations, and tokenizers that change them."""

from __future__ import annotations

import json
import logging
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.errors import ConfigError, DataError
from astraios.generation.engines.hf import HFEngine
from astraios.records import Prompt, Sampling

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors  # noqa: E402
from tokenizers import models as token_models  # noqa: E402

pytestmark = pytest.mark.train

GREEDY = Sampling(n_samples=1, temperature=0, max_new_tokens=8)
SPELLED = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def chat(*messages, **fields):
    texts = [{"role": role, "content": content} for role, content in messages]
    return Prompt(problem_id="c", text=json.dumps(texts), kind="chat", **fields)


@pytest.fixture(scope="module")
def chatting(tokenizer):
    """The byte-level tokenizer with a chat template, which strips what is said."""
    copied = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()),
        eos_token="<|endoftext|>",
    )
    copied.chat_template = SPELLED
    return copied


# --- too long ---------------------------------------------------------------------------------


def test_a_prompt_is_cut_until_its_answer_has_room(make_model, tokenizer, make_prompts, caplog):
    model = make_model("gpt_bigcode", n_positions=40)
    long = Prompt(problem_id="long one", text="".join(f"x{i} + " for i in range(60)))
    prompts = [*make_prompts(1), long]
    ids = tokenizer(long.text)["input_ids"]
    with caplog.at_level(logging.WARNING):
        samples = {
            s.problem_id: s
            for s in HFEngine(model, tokenizer, long_prompts="cut").complete(prompts, GREEDY)
        }
    cut = samples["long one"]
    assert (cut.n_prompt_tokens, cut.n_cut_tokens) == (32, len(ids) - 32)
    rest = Prompt(problem_id="long one", text=tokenizer.decode(ids[-32:]))
    (same,) = HFEngine(model, tokenizer).complete([rest], GREEDY)
    assert (same.completion, same.n_prompt_tokens) == (cut.completion, 32)
    assert samples["t/0"].n_cut_tokens == 0
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "1 of 2 prompts" in said[0] and "'long one'" in said[0]


def test_a_limit_of_new_tokens_beyond_the_context_leaves_half_to_the_prompt(make_model, tokenizer):
    model = make_model("gpt_bigcode", n_positions=40)
    long = Prompt(problem_id="a", text="x + 1" * 100)
    much = GREEDY.model_copy(update={"max_new_tokens": 10_000})
    (sample,) = HFEngine(model, tokenizer, long_prompts="cut").complete([long], much)
    assert sample.n_prompt_tokens == 20


def test_a_begin_of_text_token_stays_in_front(make_model, spaced_tokenizer):
    inner = Tokenizer.from_str(spaced_tokenizer.backend_tokenizer.to_str())
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", inner.token_to_id("<s>"))]
    )
    begins = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )
    model = make_model("llama", vocabulary=400, n_positions=40)
    seen = []
    model.register_forward_pre_hook(
        lambda _m, _a, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    long = Prompt(problem_id="a", text="for i in range " * 20)
    (sample,) = HFEngine(model, begins, long_prompts="cut").complete([long], GREEDY)
    ids = begins(long.text)["input_ids"]
    prefill = next(x[0].tolist() for x in seen if x.shape[1] > 1)
    assert prefill == [ids[0], *ids[-31:]]
    assert sample.n_cut_tokens == len(ids) - 32


def test_what_a_task_cuts_itself_is_counted_too(model, tokenizer, make_prompts, caplog):
    (prompt,) = make_prompts(1, max_length=3)
    with caplog.at_level(logging.WARNING):
        (sample,) = HFEngine(model, tokenizer).complete([prompt], GREEDY)
    n_tokens = len(tokenizer(prompt.text)["input_ids"])
    assert (sample.n_prompt_tokens, sample.n_cut_tokens) == (3, n_tokens - 3)
    assert not caplog.records


def test_an_unknown_policy_is_refused(model, tokenizer):
    with pytest.raises(ConfigError, match=r"'wrap'.* refuse, cut"):
        HFEngine(model, tokenizer, long_prompts="wrap")


def test_a_refusal_names_the_way_out(make_model, tokenizer):
    model = make_model("gpt_bigcode", n_positions=40)
    with pytest.raises(DataError, match="long_prompts=cut"):
        next(
            HFEngine(model, tokenizer).complete(
                [Prompt(problem_id="a", text="x + 1" * 100)], GREEDY
            )
        )


# --- conversations ----------------------------------------------------------------------------


def test_a_conversation_is_spelled_by_the_template(model, chatting):
    engine = HFEngine(model, chatting)
    asked = engine.spelled(chat(("system", "Be brief."), ("user", "Add two numbers.")))
    assert asked.text == "<|system|>Be brief.\n<|user|>Add two numbers.\n<|assistant|>"
    assert asked.kind == "chat"
    assert engine.spelled(chat(("user", "Add."), ("assistant", ""))) == engine.spelled(
        chat(("user", "Add."))
    )
    plain = Prompt(problem_id="p", text="[]")
    assert engine.spelled(plain) is plain


@pytest.mark.parametrize("opening", ["def f(x):", "def f(x):\n", 'def f(x):\n    """Add."""\n\n  '])
def test_a_turn_that_was_begun_is_gone_on_with_to_the_letter(opening, model, chatting):
    asked = HFEngine(model, chatting).spelled(chat(("user", "Add."), ("assistant", opening)))
    assert asked.text == f"<|user|>Add.\n<|assistant|>{opening}"


def test_a_conversation_gets_no_more_special_tokens(make_model, spaced_tokenizer):
    inner = Tokenizer.from_str(spaced_tokenizer.backend_tokenizer.to_str())
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", inner.token_to_id("<s>"))]
    )
    begins = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )
    begins.chat_template = "<s>{% for m in messages %}{{ m.content }}{% endfor %}"
    engine = HFEngine(make_model("llama", vocabulary=400), begins)
    asked = engine.spelled(chat(("user", "for i in x")))
    (sample,) = engine.complete([asked], GREEDY)
    (plain,) = engine.complete([Prompt(problem_id="c", text="for i in x")], GREEDY)
    assert sample.n_prompt_tokens == plain.n_prompt_tokens
    assert sample.completion == plain.completion


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (Prompt(problem_id="c", text="hello", kind="chat"), "messages as JSON"),
        (Prompt(problem_id="c", text="[]", kind="chat"), "list of messages"),
        (Prompt(problem_id="c", text='[{"role": "user"}]', kind="chat"), "list of messages"),
    ],
)
def test_what_is_no_conversation_is_named(prompt, said, model, chatting):
    with pytest.raises(DataError, match=rf"'c'.*{said}"):
        HFEngine(model, chatting).spelled(prompt)


def test_a_model_without_a_template_is_named(model, tokenizer):
    with pytest.raises(DataError, match=r"'c'.*no chat template.*another template than chat"):
        HFEngine(model, tokenizer).spelled(chat(("user", "Add.")))


def test_what_the_template_refuses_is_said_with_its_words(model, chatting, monkeypatch):
    refusing = "{{ raise_exception('only users may speak') }}"
    monkeypatch.setattr(chatting, "chat_template", refusing)
    with pytest.raises(DataError, match="only users may speak"):
        HFEngine(model, chatting).spelled(chat(("user", "Add.")))


# --- tokenizers that change a text ------------------------------------------------------------


def words(normalizer=None):
    """A tokenizer of words: spaces and line ends become one space, other letters unknown."""
    vocabulary = {"[UNK]": 0, "def": 1, "f": 2, "return": 3, "x": 4}
    inner = Tokenizer(token_models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if normalizer is not None:
        inner.normalizer = normalizer
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")


def test_a_tokenizer_that_changes_the_prompt_is_refused(make_model):
    engine = HFEngine(make_model("gpt_bigcode"), words())
    assert len(list(engine.complete([Prompt(problem_id="a", text="def f")], GREEDY))) == 1
    with pytest.raises(DataError, match=r"'b'.*from character 5 on, '\\n  return x' has become"):
        next(engine.complete([Prompt(problem_id="b", text="def f\n  return x")], GREEDY))
    lower = HFEngine(make_model("gpt_bigcode"), words(normalizers.Lowercase()))
    with pytest.raises(DataError, match=r"from character 0 on, 'Def f' has become 'def f'"):
        next(lower.complete([Prompt(problem_id="b", text="Def f")], GREEDY))


def composing():
    """Byte-level with Unicode composed first, as Qwen2's and GPT-NeoX's."""
    inner = Tokenizer(token_models.BPE(dict.fromkeys(()), []))
    inner.normalizer = normalizers.NFC()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner.model = token_models.BPE({piece: n for n, piece in enumerate(alphabet)}, [])
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>")


@pytest.mark.parametrize(
    "text", ["  def f():\n\tx = 'nai\u0308ve'\r\n", " x", "數\u3000x", "\u212b", "a <end>  b"]
)
def test_tokenizers_of_code_models_are_not_refused(text, make_model, tokenizer, spaced_tokenizer):
    for each in (tokenizer, spaced_tokenizer, composing()):
        model = make_model("gpt_bigcode", vocabulary=400)
        samples = HFEngine(model, each).complete([Prompt(problem_id="a", text=text)], GREEDY)
        assert len(list(samples)) == 1


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_no_text_is_refused_by_a_byte_level_tokenizer(tokenizer, text):
    from astraios.generation.engines._questions import Reader

    (question,) = Reader(tokenizer, 10_000, 0).read([Prompt(problem_id="a", text=text)], 1)
    assert tokenizer.decode(question.ids) == text


def test_special_tokens_may_take_the_spaces_beside_them(make_model, tokenizer):
    inner = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    taking = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|endoftext|>")
    taking.add_special_tokens(
        {"additional_special_tokens": [transformers.AddedToken("<|user|>", rstrip=True)]}
    )
    engine = HFEngine(make_model("gpt_bigcode", vocabulary=400), taking)
    (sample,) = engine.complete([Prompt(problem_id="a", text="<|user|>\n  def f")], GREEDY)
    assert sample.completion is not None


def test_checking_costs_little_beside_encoding(tokenizer):
    from astraios.generation.engines._questions import Reader

    prompts = [Prompt(problem_id=str(i), text="def add(x, y):\n" * 60) for i in range(200)]
    reader = Reader(tokenizer, 10_000, 0)
    spent = []
    for work in (lambda: tokenizer([p.text for p in prompts]), lambda: reader.read(prompts, 1)):
        begun = time.process_time()
        work()
        spent.append(time.process_time() - begun)
    assert spent[1] < 20 * spent[0] + 1
