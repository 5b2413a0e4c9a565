"""AdapterH on a Llama-style model with plain `peft` calls: train, save, load, switch off.

The model is random and tiny, so this runs anywhere in seconds; put `from_pretrained` in its place.
"""

import tempfile

import torch
from peft import PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from astraios.peft import BottleneckConfig  # the import registers the method with PEFT


def base_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 256}
    return LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, num_attention_heads=4, **sizes))


config = BottleneckConfig(placement="adapterh", bottleneck_size=16, task_type="CAUSAL_LM")
model = get_peft_model(base_model(), config)
model.print_trainable_parameters()

ids = torch.arange(64)[None] * 7 % 256
optimizer = torch.optim.AdamW((w for w in model.parameters() if w.requires_grad), lr=1e-2)
for _ in range(50):
    optimizer.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()

with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    loaded = PeftModel.from_pretrained(base_model(), folder)
print(f"tuned: loss {loaded(input_ids=ids, labels=ids).loss.item():.3f}")
with loaded.disable_adapter():
    print(f"base:  loss {loaded(input_ids=ids, labels=ids).loss.item():.3f}")
