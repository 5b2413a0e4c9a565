"""AdapterH with TRL's SFTTrainer: pack, train on completions, save, load, switch off.

The model is random and tiny and knows bytes, so this runs anywhere in seconds. For real use:

    python examples/trl_bottleneck.py --model bigcode/starcoder2-3b --data rows.jsonl --to adapter

where each line of the data is {"prompt": "...", "completion": "..."}.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from peft import PeftModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from trl import SFTConfig, SFTTrainer

from astraios.peft import BottleneckConfig  # the import registers the method with PEFT

END = "<|endoftext|>"
ROWS = [
    {"prompt": f"Question: {name} the list {k}\n\nAnswer:", "completion": f" v = {call}(v, {k})"}
    for name, call in (("Sort", "sort"), ("Reverse", "reverse"), ("Shuffle", "shuffle"))
    for k in range(8)
]


def tiny() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    of = Tokenizer(models.BPE({t: at for at, t in enumerate([END, *letters])}, []))
    of.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    of.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=of, eos_token=END, pad_token=END)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "vocab_size": len(tokenizer)}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, **ends)), tokenizer


def opened(name: str | None) -> tuple:
    if name is None:
        return tiny()
    return AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)


@torch.no_grad()
def loss_of(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, row: dict) -> float:
    """Of a row's completion."""
    prompt, completion = (tokenizer(row[part])["input_ids"] for part in ("prompt", "completion"))
    ids = torch.tensor([prompt + completion], device=next(model.parameters()).device)
    labels = ids.clone()
    labels[:, : len(prompt)] = -100
    return model.eval()(input_ids=ids, labels=labels).loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="A folder or a hub id; by default a tiny random one.")
    parser.add_argument("--data", type=Path, help="JSON lines of prompts and completions.")
    parser.add_argument("--to", type=Path, help="Folder for the adapter; by default none is kept.")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rate", type=float, help="Peak of the learning rate.")
    given = parser.parse_args()
    lines = given.data.read_text().splitlines() if given.data else ()
    rows = [json.loads(line) for line in lines] or ROWS
    model, tokenizer = opened(given.model)

    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=scratch,
                max_steps=given.steps,
                per_device_train_batch_size=2,
                learning_rate=given.rate or (1e-2 if given.model is None else 1e-4),
                packing=True,
                packing_strategy="bfd",
                max_length=256 if given.model is None else 2048,
                completion_only_loss=True,
                gradient_checkpointing=given.model is not None,
                bf16=torch.cuda.is_available(),
                use_cpu=not torch.cuda.is_available(),
                logging_steps=max(1, given.steps // 3),
                save_strategy="no",
                report_to="none",
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=BottleneckConfig(
                placement="adapterh", bottleneck_size=16, task_type="CAUSAL_LM"
            ),
        )
        trainer.train()
        folder = given.to or Path(scratch) / "adapter"
        trainer.save_model(str(folder))
        trained = loss_of(trainer.model, tokenizer, rows[0])
        loaded = PeftModel.from_pretrained(opened(given.model)[0], folder)

    print(f"trained: loss {trained:.3f}")
    print(f"loaded:  loss {loss_of(loaded, tokenizer, rows[0]):.3f}")
    with loaded.disable_adapter():
        print(f"base:    loss {loss_of(loaded, tokenizer, rows[0]):.3f}")


if __name__ == "__main__":
    main()
