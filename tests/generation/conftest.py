"""Tiny random models and tokenizers, made in memory."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="generation needs torch")
transformers = pytest.importorskip("transformers", reason="generation needs transformers")

from tokenizers import Tokenizer, decoders, models, normalizers, trainers  # noqa: E402

from astraios.generation import Model  # noqa: E402
from astraios.studies.serving import load_tuned  # noqa: E402
from astraios.testing import byte_tokenizer  # noqa: E402
from astraios.testing.engines import TEXTS, some_prompts  # noqa: E402

N_POSITIONS = 96


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer():
    """Byte-level, as StarCoder's; no padding token."""
    return byte_tokenizer(TEXTS)


@pytest.fixture(scope="session")
def spaced_tokenizer():
    """Marks spaces and falls back on bytes, as SentencePiece models; drops a leading space."""
    inner = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    inner.normalizer = normalizers.Replace(" ", "▁")
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=380,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    inner.train_from_iterator(TEXTS[:3] * 4, trainer)
    state = json.loads(inner.to_str())
    state["added_tokens"] = state["added_tokens"][:3]  # bytes are in the vocabulary, not special
    inner = Tokenizer.from_str(json.dumps(state))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )


def _model(family: str, *, vocabulary: int = 320, n_positions: int = N_POSITIONS):
    """Two random layers whose logits are spread like a trained model's."""
    sizes = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    if family.startswith("gpt_bigcode"):
        config = transformers.GPTBigCodeConfig(
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=n_positions,
            multi_query=family == "gpt_bigcode",
            initializer_range=0.3,
            **sizes,
        )
    elif family == "llama":
        config = transformers.LlamaConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=n_positions,
            initializer_range=0.3,
            **sizes,
        )
    elif family == "mistral":
        config = transformers.MistralConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=n_positions,
            sliding_window=6,
            initializer_range=0.3,
            **sizes,
        )
    elif family == "bloom":
        config = transformers.BloomConfig(
            hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3, **sizes
        )
    else:
        config = transformers.OPTConfig(
            hidden_size=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            word_embed_proj_dim=32,
            max_position_embeddings=n_positions,
            init_std=0.3,
            **sizes,
        )
    torch.manual_seed(7)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="session")
def make_model():
    """Builds a model of a family."""
    return _model


@pytest.fixture(scope="session")
def model():
    return _model("gpt_bigcode")


@pytest.fixture(scope="session")
def stored(tmp_path_factory, model, tokenizer):
    """Folder of the model and its tokenizer, as other processes find them."""
    folder = tmp_path_factory.mktemp("stored") / "base"
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def described(stored):
    """Describes the stored model for `Engine.open`."""

    def make(**fields: Any) -> Model:
        load = partial(load_tuned, stored, None, None, None, "float32")
        return Model(**{"load": load, "base_model": str(stored), **fields})

    return make


@pytest.fixture
def served(_serving):
    """`_serving`, well behaved at the beginning of each test."""
    _serving.server.control()
    return _serving


@pytest.fixture(scope="session")
def _serving(tmp_path_factory, tokenizer):
    """A base, its adapters and a server process: one for all test files, for it takes seconds."""
    pytest.importorskip("peft")
    from .server.serving import Served

    made = Served(tmp_path_factory.mktemp("served"), _model, tokenizer)
    with made.server:
        yield made


@pytest.fixture(scope="session")
def tuned():
    """Tunes a model by a method, with new weights that are not the identity."""
    return _tuned


def _tuned(method: Any, model: Any) -> Any:
    changed = method.apply(model, {"total_step": 10} if method.name == "adalora" else {})
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in changed.parameters():
            if weight.requires_grad:
                weight.add_(0.3 * torch.randn_like(weight))
    return changed.eval()


@pytest.fixture(scope="session")
def make_prompts():
    """Builds so many prompts."""
    return some_prompts
