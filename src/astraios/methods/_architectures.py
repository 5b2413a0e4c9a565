"""Where the linear layers of a decoder block are, by architecture.

A block is described by the role of its layers. Every method derives its targets and its parameter
formula from the roles, so a new architecture is one entry here and nothing elsewhere:

    attention_in  -> [attention] -> attention_out -> + ->  mlp_in -> [activation] -> mlp_out -> +

Paths are inside one block, as in `transformer.h.0.<path>`. Keys are `model_type` of the
transformers config.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from astraios.errors import MethodError, did_you_mean

__all__ = ["ARCHITECTURES", "Architecture", "architecture", "ends_with"]


@dataclass(frozen=True)
class Architecture:
    """The linear layers of one decoder block, by role."""

    attention_in: tuple[str, ...]
    """One fused projection, or those of query, key and value in this order."""
    attention_out: str
    mlp_in: tuple[str, ...]
    """The layers that read the MLP's input: one, or gate and up."""
    mlp_out: str
    mlp: str | None
    """The module that holds the MLP; None where its layers lie in the block itself."""

    @property
    def fused(self) -> bool:
        """Whether query, key and value come from one layer."""
        return len(self.attention_in) == 1

    @property
    def paths(self) -> tuple[str, ...]:
        """All linear layers, in the order of the forward pass."""
        return (*self.attention_in, self.attention_out, *self.mlp_in, self.mlp_out)

    def short(self, path: str) -> str:
        """The shortest name that means `path` and no other layer of the block."""
        last = path.rpartition(".")[2]
        alone = sum(other.rpartition(".")[2] == last for other in self.paths) == 1
        return last if alone else path

    def shorts(self, paths: Iterable[str]) -> tuple[str, ...]:
        """`short` of each of `paths`."""
        return tuple(self.short(path) for path in paths)


def ends_with(path: str, name: str) -> bool:
    """Whether the last components of `path` are `name`: `mlp.c_fc` ends with `c_fc`."""
    return path == name or path.endswith(f".{name}")


def _gated(attention: str = "self_attn", mlp: str = "mlp") -> Architecture:
    return Architecture(
        attention_in=tuple(f"{attention}.{letter}_proj" for letter in "qkv"),
        attention_out=f"{attention}.o_proj",
        mlp_in=(f"{mlp}.gate_proj", f"{mlp}.up_proj"),
        mlp_out=f"{mlp}.down_proj",
        mlp=mlp,
    )


def _fused(attention: str) -> Architecture:
    return Architecture(
        attention_in=(f"{attention}.query_key_value",),
        attention_out=f"{attention}.dense",
        mlp_in=("mlp.dense_h_to_4h",),
        mlp_out="mlp.dense_4h_to_h",
        mlp="mlp",
    )


_GPT2 = Architecture(("attn.c_attn",), "attn.c_proj", ("mlp.c_fc",), "mlp.c_proj", "mlp")

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "gpt_bigcode": _GPT2,
        "gpt2": _GPT2,
        "starcoder2": Architecture(
            ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            "self_attn.o_proj",
            ("mlp.c_fc",),
            "mlp.c_proj",
            "mlp",
        ),
        "llama": _gated(),
        "mistral": _gated(),
        "qwen2": _gated(),
        "qwen3": _gated(),
        "gemma": _gated(),
        "gemma2": _gated(),
        "gemma3_text": _gated(),
        "granite": _gated(),
        "phi": Architecture(
            ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            "self_attn.dense",
            ("mlp.fc1",),
            "mlp.fc2",
            "mlp",
        ),
        "phi3": Architecture(
            ("self_attn.qkv_proj",),
            "self_attn.o_proj",
            ("mlp.gate_up_proj",),
            "mlp.down_proj",
            "mlp",
        ),
        "opt": Architecture(
            ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            "self_attn.out_proj",
            ("fc1",),
            "fc2",
            None,
        ),
        "gptj": Architecture(
            ("attn.q_proj", "attn.k_proj", "attn.v_proj"),
            "attn.out_proj",
            ("mlp.fc_in",),
            "mlp.fc_out",
            "mlp",
        ),
        "gpt_neo": Architecture(
            ("attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"),
            "attn.attention.out_proj",
            ("mlp.c_fc",),
            "mlp.c_proj",
            "mlp",
        ),
        "gpt_neox": _fused("attention"),
        "bloom": _fused("self_attention"),
        "falcon": _fused("self_attention"),
        # Remote code: not part of transformers, but the original's tables have it.
        "chatglm": _fused("self_attention"),
        "mpt": Architecture(
            ("attn.Wqkv",), "attn.out_proj", ("ffn.up_proj",), "ffn.down_proj", "ffn"
        ),
    }
)


def architecture(
    model_type: str | None, wanted_by: str, linear_names: Iterable[str] = ()
) -> Architecture:
    """The entry of `model_type`.

    Args:
        model_type: of the transformers config.
        wanted_by: the method or placement that asks; named in the error.
        linear_names: the model's linear layers; listed in the error.

    Raises:
        MethodError: if there is no entry; shows how to pass targets instead.
    """
    block = ARCHITECTURES.get(model_type or "")
    if block is not None:
        return block
    names = sorted(linear_names)
    known = ", ".join(sorted(ARCHITECTURES))
    listed = f" Its linear layers are: {', '.join(names)}." if names else ""
    raise MethodError(
        f"{wanted_by} knows no targets for architecture {model_type!r} "
        f"(known: {known}).{did_you_mean(model_type or '', ARCHITECTURES)}"
        f"{listed} Name the layers yourself, for example target_modules="
        f"[{repr(names[0]) if names else repr('c_proj')}]"
    )
