"""The loss from the positions that have a target, some at a time.

A model computes logits at every position, keeps all of them for the backward pass and turns them
into 32-bit numbers. Here the head sees only the positions whose next token counts in the loss, and
only `ELEMENTS` logits exist at a time: what the backward pass needs of them, the gradient of the
hidden states, is computed on the spot, and of the head's weight where that is trained.

    hidden states   h0 h1 h2 h3 h4        labels   .  .  .  t3 t4
    the head sees         h2 h3           and predicts     t3 t4

It happens inside the model's own forward pass, at its head, so whatever wraps or tunes the model
keeps working. Models that change their logits behind the head (a cap, a scale) cannot be computed
like this: `probe` tells, by comparing both ways on a few tokens.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from astraios.data.tokens import IGNORED

ELEMENTS = 2**19
"""Logits at a time on a CPU: as many as stay in its cache."""
ELEMENTS_GPU = 2**25


@dataclass(frozen=True)
class Probe:
    """What is known about the loss of a model."""

    loss: TargetLoss | None
    """None: it has to be computed from all logits."""
    why_not: str
    adds: bool
    """Whether the model adds something of its own to the loss, once a forward pass."""


class TargetLoss(AbstractContextManager["TargetLoss"]):
    """While it is entered, `model(..., labels=...)` computes its loss as said above.

    Forward passes without labels are left alone. The logits of one with labels are no logits then.
    """

    def __init__(self, model: nn.Module) -> None:
        of: Any = model
        self._base: Any = of.get_base_model() if hasattr(of, "get_base_model") else of
        self._head: Any = self._base.get_output_embeddings()
        self._labels: Tensor | None = None
        self._total = self._n_targets = torch.tensor(0)
        self._replaced: list[tuple[Any, str, Any]] = []
        self._logits = self._forward = self._head.forward

    def __enter__(self) -> TargetLoss:
        # Some wrappers call `forward` past the hooks of a module, so it is that which is replaced.
        self._logits, self._forward = self._head.forward, self._base.forward
        for owner, name, put in (
            (self._base, "forward", self._seeing),
            (self._head, "forward", self._at_the_head),
            (self._base, "_loss_function", self._instead),
        ):
            self._replaced.append((owner, name, owner.__dict__.get(name)))
            setattr(owner, name, put)
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name, before in self._replaced:
            if before is None:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        self._replaced.clear()
        self._labels, self._total = None, torch.tensor(0)

    def _seeing(self, *positional: Any, **named: Any) -> Any:
        self._labels = named.get("labels")
        return self._forward(*positional, **named)

    def _at_the_head(self, hidden_BTD: Tensor) -> Tensor:
        if self._labels is None:
            logits: Tensor = self._logits(hidden_BTD)
            return logits
        if hidden_BTD.shape[:2] != self._labels.shape:
            raise ValueError("its head sees other positions than its labels")
        targets_BT = self._labels[:, 1:].to(hidden_BTD.device)
        counts_BT = targets_BT != IGNORED
        hidden_ND, targets_N = hidden_BTD[:, :-1][counts_BT], targets_BT[counts_BT]
        self._n_targets = counts_BT.sum()
        self._total = self._sum(hidden_ND, targets_N)
        return self._total

    def _instead(
        self, logits: Tensor, *_: Any, num_items_in_batch: Any = None, **__: Any
    ) -> Tensor:
        if logits is not self._total:
            raise ValueError("it changes its logits behind the head")
        n = self._n_targets.clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        return logits / (n.to(logits.device) if torch.is_tensor(n) else n)

    def _sum(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        """The summed cross-entropy."""
        if getattr(self._logits, "__func__", None) is nn.Linear.forward:
            head = self._head
            found: Tensor = _Summed.apply(  # type: ignore[no-untyped-call]
                hidden_ND, head.weight, head.bias, targets_N, torch.is_grad_enabled()
            )
            return found
        total = 0.0 * hidden_ND.float().sum()
        size = chunk_rows(self._base.config.get_text_config().vocab_size, hidden_ND.device)
        for at in range(0, len(targets_N), size):
            some = hidden_ND[at : at + size], targets_N[at : at + size]
            total = total + checkpoint(self._of_logits, *some, use_reentrant=False)
        return total

    def _of_logits(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(self._logits(hidden).float(), targets, reduction="sum")


def chunk_rows(n_logits: int, device: torch.device) -> int:
    """How many positions are turned into logits at a time."""
    elements = ELEMENTS_GPU if device.type == "cuda" else ELEMENTS
    return max(32, elements // n_logits)


class _Summed(torch.autograd.Function):
    """Summed cross-entropy behind a linear layer, with its gradients computed on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        with_gradients: bool,
    ) -> Tensor:
        device = hidden_ND.device
        auto = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if auto else weight_VD.dtype
        of_hidden, of_weight, of_bias = (
            with_gradients and needed for needed in ctx.needs_input_grad[:3]
        )
        weight = weight_VD.to(dtype)
        total = torch.zeros((), dtype=torch.float32, device=device)
        hidden_grad = torch.empty_like(hidden_ND, dtype=dtype) if of_hidden else None
        weight_grad = torch.zeros_like(weight_VD, dtype=torch.float32) if of_weight else None
        bias_grad = (
            torch.zeros_like(bias_V, dtype=torch.float32)
            if of_bias and bias_V is not None
            else None
        )
        size = chunk_rows(len(weight_VD), device)
        with torch.autocast(device.type, enabled=False):
            for at in range(0, len(hidden_ND), size):
                hidden = hidden_ND[at : at + size].to(dtype)
                targets_n1 = targets_N[at : at + size, None]
                bias = None if bias_V is None else bias_V.to(dtype)
                logits = functional.linear(hidden, weight, bias).float()
                norm_n1 = logits.logsumexp(-1, keepdim=True)
                total += (norm_n1 - logits.gather(1, targets_n1)).sum()
                if not (of_hidden or of_weight or of_bias):
                    continue
                gradient = logits.sub_(norm_n1).exp_()  # the probabilities; less 1 at the target
                gradient.scatter_add_(1, targets_n1, gradient.new_full(targets_n1.shape, -1.0))
                if bias_grad is not None:
                    bias_grad += gradient.sum(0)
                narrow = gradient.to(dtype)
                if hidden_grad is not None:
                    torch.mm(narrow, weight, out=hidden_grad[at : at + size])
                if weight_grad is not None:
                    if dtype == torch.float32:
                        weight_grad.addmm_(narrow.t(), hidden)
                    else:
                        weight_grad += narrow.t() @ hidden
        ctx.save_for_backward(hidden_grad, weight_grad, bias_grad)
        ctx.dtypes = hidden_ND.dtype, weight_VD.dtype, None if bias_V is None else bias_V.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        scaled = (
            None if found is None else (found * gradients[0].to(found.dtype)).to(dtype)
            for found, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return (*scaled, None, None)


@torch.no_grad()
def probe(model: nn.Module, autocast: torch.dtype | None = None) -> Probe:
    """Compare both ways on a few tokens; nothing random is drawn.

    Args:
        model: a causal language model, possibly tuned.
        autocast: the type that it is trained in, if not its own.
    """
    of: Any = model
    device = next(model.parameters()).device
    n_tokens = of.get_input_embeddings().weight.shape[0]
    ids_BT = torch.arange(3, 19, device=device).reshape(2, 8) % n_tokens
    labels_BT = ids_BT.clone()
    labels_BT[0, :4] = IGNORED
    was_training = model.training
    model.eval()
    under = torch.autocast(device.type, autocast) if autocast else nullcontext()
    try:
        with under:
            whole = of(input_ids=ids_BT, labels=labels_BT)
            logits_BTV = whole.logits[:, -labels_BT.shape[1] : -1].float()
            plain = functional.cross_entropy(
                logits_BTV.flatten(0, 1), labels_BT[:, 1:].flatten(), ignore_index=IGNORED
            )
            adds = not _close(whole.loss, plain)
            try:
                loss = TargetLoss(model)
                with loss:
                    ours = of(input_ids=ids_BT, labels=labels_BT).loss
            except (ValueError, IndexError, RuntimeError, AttributeError, TypeError) as error:
                return Probe(None, str(error), adds)
    finally:
        model.train(was_training)
    if not _close(ours, whole.loss):
        return Probe(None, f"it would be {ours:.4f} instead of {whole.loss:.4f}", adds)
    return Probe(loss, "", adds)


def _close(one: Tensor, other: Tensor) -> bool:
    return bool(torch.isclose(one.float(), other.float(), rtol=1e-2, atol=1e-3))
