"""One base, what tuned it by each method, and a server of all that a server can serve."""

from __future__ import annotations

import json
from functools import partial

import torch

from astraios import methods
from astraios.generation import Model
from astraios.generation.engines.hf import HFEngine
from astraios.generation.engines.openai import OpenAIEngine
from astraios.generation.engines.replay import ReplayEngine
from astraios.generation.engines.vllm import VLLMEngine
from astraios.studies.serving import load_tuned

from .running import Running

ENGINES = {e.name: e for e in (HFEngine, OpenAIEngine, VLLMEngine, ReplayEngine)}
TEMPLATE = (
    "{% for m in messages %}{% if not loop.first %}\n{% endif %}"
    "{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}\nassistant: {% endif %}"
)


class Served:
    """A base and what tuned it, in folders; a server of all that a server can serve."""

    def __init__(self, folder, make_model, tokenizer):
        self.base = folder / "base"
        self.folder = folder
        model = make_model("llama")
        broken = [n for n in range(320) if not tokenizer.decode([n]).isascii()]
        with torch.no_grad():  # servers that send text hold back pieces of characters
            model.lm_head.weight[broken] = 0
        model.save_pretrained(str(self.base))
        tokenizer.save_pretrained(str(self.base))
        told = json.loads((self.base / "tokenizer_config.json").read_text())
        (self.base / "tokenizer_config.json").write_text(
            json.dumps(told | {"chat_template": TEMPLATE})
        )
        spec = {"models": {"tiny": {"folder": str(self.base)}}}
        self.server = Running(folder, spec)
        self._references = {}

    def adapter(self, name):
        """The folder of an adapter that is not the identity."""
        folder = self.folder / "adapters" / name
        if not folder.exists():
            method = methods.method(name)
            base, _, _ = load_tuned(self.base, None, None, None, "float32")
            tuned = method.apply(base, {"total_step": 10} if name == "adalora" else {})
            torch.manual_seed(5)
            with torch.no_grad():
                for part, weight in tuned.named_parameters():
                    if weight.requires_grad and "lm_head" not in part:
                        weight.add_(0.2 * torch.randn_like(weight))
            method.save(tuned, folder)
        return folder

    def model(self, name, **options):
        method = None if name == "base" else name
        adapter = None if name == "base" else self.adapter(name)
        return Model(
            load=partial(load_tuned, self.base, None, method, adapter, "float32"),
            base_model=str(self.base),
            method=method,
            adapter=adapter,
            folder=self.folder,
            options=options,
        )

    def reference(self, name):
        """The hf engine, whose answers are expected."""
        if name not in self._references:
            self._references[name] = HFEngine.open(self.model(name))
        return self._references[name]

    def served(self, name):
        """The name under which the server has what `name` tuned, merged if it is no adapter."""
        if name in ("base", "ptuning", "prompt"):
            return "tiny"
        path = self.folder / "merged" / name
        if not path.exists():
            tuned, tokenizer, method = self.model(name).load()
            method.merge(tuned).save_pretrained(str(path))
            tokenizer.save_pretrained(str(path))
            self.server.control(adding={name: {"folder": str(path)}})
        return name

    def open(self, engine, name, **options):
        if engine == "hf":
            return HFEngine.open(self.model(name))
        options = {"url": self.server.url, "first_pause_s": 0, **options}
        is_loaded = engine == "vllm" and name in ("lora", "rslora")
        if not is_loaded:  # by the engine itself
            options["model"] = self.served(name)
        return ENGINES[engine].open(self.model(name, **options))
