"""What every method keeps, tried on tiny random models of several architectures.

New weights are stirred first, because most methods begin as the base model itself and would hide
what they do; dropout is off.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from astraios import methods, registry
from astraios.errors import MethodError
from astraios.methods import Method, Shape
from astraios.testing._contract import NotApplicable, Property, properties, refused, require
from astraios.testing._tiny import tiny_batch, tiny_config, tiny_model

__all__ = ["CONTRACT", "SMALL", "MethodSubject", "subject"]

FIRST = "gpt_bigcode"
"""StarCoder's architecture, which every method has to know."""
COUNTED_ON = ("llama", "starcoder2", "opt", "gpt_neox", "qwen3")
PADDED_ON = (FIRST, "llama", "opt", "bloom")
RATES = (1e-2, 1e-1, 3e-1, 3e-2)
"""Learning rates of AdamW that are tried until twenty steps show on a model this small."""
STIR = 0.05
"""Standard deviation of what is added to new weights."""

SMALL: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "rslora": {"r": 8},
        "pissa": {"r": 8, "lora_alpha": 8},
        "adalora": {"init_r": 4, "target_r": 2, "total_step": 20},
        "vera": {"r": 8},
        "oft": {"oft_block_size": 8},
        **{name: {"bottleneck_size": 8} for name in ("adapterh", "adapterp", "parallel")},
    }
)
"""Options with which methods of the package fit a model of width 32."""


@dataclass(frozen=True)
class MethodSubject:
    """A method and the options that it is tried with."""

    method: Method
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def base(self, architecture: str = FIRST) -> Any:
        """A fresh tiny base model."""
        return tiny_model(architecture)

    def tuned(self, architecture: str = FIRST) -> Any:
        """A fresh base, tuned; new weights stirred and dropout off.

        Raises:
            NotApplicable: if the method refuses another architecture than the first.
        """
        import torch

        base = self.base(architecture)
        torch.manual_seed(1)
        try:
            model = still(self.method.apply(base, dict(self.options)).eval())
        except MethodError as error:
            if architecture == FIRST:
                raise
            raise NotApplicable(str(error)) from None
        if not self.method.trains_base:
            with torch.no_grad():
                for weight in trainable(model).values():
                    weight.add_(STIR * torch.randn_like(weight))
        return model


def subject(name: str, options: Mapping[str, Any] | None = None) -> MethodSubject:
    """The method called `name`, with `options` or those that fit a small model.

    Raises:
        UnknownNameError: if there is no such method.
    """
    method = methods.method(name)
    return MethodSubject(method, SMALL.get(name, {}) if options is None else options)


def trainable(model: Any) -> dict[str, Any]:
    """Name -> weight that gradients reach."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def still(model: Any) -> Any:
    """`model` without dropout."""
    for module in model.modules():
        if type(module).__name__ == "Dropout":
            module.p = 0.0
    return model


def logits(model: Any, ids_BT: Any) -> Any:
    """What `model` says behind each token, virtual ones left out: (B, T, V)."""
    import torch

    with torch.no_grad():
        return model.eval()(input_ids=ids_BT).logits[:, -ids_BT.shape[1] :]


def close(found: Any, expected: Any, tolerance: float, what: str) -> None:
    """Break the contract unless two tensors agree."""
    require(found.shape == expected.shape, f"{what}: {found.shape}, expected {expected.shape}")
    worst = float((found - expected).abs().max())
    require(worst <= tolerance, f"{what}: logits differ by {worst:.2g}, allowed {tolerance:.0e}")


def train(method: Method, model: Any, rate: float, n_steps: int = 20) -> list[float]:
    """Losses of `n_steps` of AdamW on one batch."""
    import torch

    ids_BT, _ = tiny_batch()
    model.train()
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=rate, weight_decay=0.0)
    losses = []
    for step in range(1, n_steps + 1):
        loss = model(input_ids=ids_BT, labels=ids_BT).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(model, step)
    return losses


# --- the properties ---------------------------------------------------------------------------


def _it_is_found_by_its_name(of: MethodSubject) -> None:
    method = of.method
    listed = registry.names(methods)
    require(method.name in listed, f"its name is {method.name!r}; listed are {', '.join(listed)}")
    require(
        registry.load(methods, "method", method.name) is method,
        f"{method.name!r} loads another object than this one",
    )


def _it_says_what_it_is(of: MethodSubject) -> None:
    method = of.method
    require(method.title, "give it a title")
    require(
        "arXiv:" in method.paper, f"paper: expected 'Names year, arXiv:N', found {method.paper!r}"
    )
    module = importlib.import_module(_module(method))
    text = module.__doc__ or ""
    for word in ("arXiv:", "Parameters") if module.__name__.startswith("astraios.") else ():
        require(word in text, f"the docstring of {module.__name__} has no {word!r}")


def _module(method: Method) -> str:
    """The module that exports the method."""
    name = f"{methods.__name__}.{method.name}"
    if method.name in registry.builtin_names(methods):
        return name
    return next(
        (n for n, m in list(sys.modules.items()) if getattr(m, "method", None) is method),
        type(method).__module__,
    )


def _trainable_count_is_the_formulas(of: MethodSubject) -> None:
    _counted(of, FIRST)


def _counted(of: MethodSubject, architecture: str) -> None:
    shape = Shape.from_config(tiny_config(architecture))
    found = sum(weight.numel() for weight in trainable(of.tuned(architecture)).values())
    said = of.method.n_trainable(shape, dict(of.options))
    require(found == said, f"n_trainable says {said:,} on {architecture}, {found:,} are trained")


def _base_weights_are_frozen_and_unchanged(of: MethodSubject) -> None:
    _has_an_adapter(of)
    _leaves_the_base(of)
    import torch

    base = of.base()
    before = {w.data_ptr(): (name, w.clone()) for name, w in base.named_parameters()}
    train(of.method, of.method.apply(base, dict(of.options)), 1e-2)
    for weight in base.parameters():
        name, old = before.get(weight.data_ptr(), ("", None))
        if old is not None:
            require(not weight.requires_grad, f"{name} of the base is not frozen")
            require(torch.equal(weight, old), f"{name} of the base has changed")


def _gradient_reaches_every_new_weight(of: MethodSubject) -> None:
    ids_BT, _ = tiny_batch()
    tuned = of.tuned()
    tuned(input_ids=ids_BT, labels=ids_BT).loss.backward()
    without = [n for n, w in trainable(tuned).items() if w.grad is None or not w.grad.any()]
    require(not without, f"no gradient reaches {', '.join(without[:5])}")


def _twenty_steps_lower_the_loss(of: MethodSubject) -> None:
    falls = []
    for rate in RATES:
        losses = train(of.method, of.tuned(), rate)
        falls.append(losses[0] - losses[-1])
        if falls[-1] > 0.05:
            return
    told = ", ".join(f"{fall:.3f} at {rate:g}" for rate, fall in zip(RATES, falls, strict=True))
    require(False, f"the loss falls by {told}; expected 0.05 at one of these rates")


def _saved_and_loaded_gives_equal_logits(of: MethodSubject) -> None:
    ids_BT, _ = tiny_batch()
    tuned = of.tuned()
    train(of.method, tuned, 1e-2)
    with tempfile.TemporaryDirectory() as folder:
        of.method.save(tuned.eval(), Path(folder) / "adapter")
        loaded = of.method.load(of.base(), Path(folder) / "adapter")
    close(logits(loaded, ids_BT), logits(tuned, ids_BT), 1e-6, "saved and loaded")
    left = list(trainable(loaded))
    require(not left, f"loaded without trainable=True, {', '.join(left[:3])} can be trained")


def _loaded_for_training_it_goes_on_as_if_never_saved(of: MethodSubject) -> None:
    tuned = of.tuned()
    with tempfile.TemporaryDirectory() as folder:
        of.method.save(tuned, Path(folder) / "adapter")
        loaded = of.method.load(of.base(), Path(folder) / "adapter", trainable=True)
    here, there = (sorted(w.shape for w in trainable(m).values()) for m in (loaded, tuned))
    require(here == there, f"{len(here)} weights are trained again, {len(there)} were before")
    again, never = train(of.method, still(loaded), 1e-3), train(of.method, tuned, 1e-3)
    worst = max(abs(a - b) for a, b in zip(again, never, strict=True))
    require(worst <= 1e-4, f"losses of further steps differ by {worst:.2g}")


def _saving_twice_replaces_the_folder(of: MethodSubject) -> None:
    tuned = of.tuned()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "adapter"
        of.method.save(tuned, folder)
        (folder / "stray").touch()
        of.method.save(tuned, folder)
        require(not (folder / "stray").exists(), "a file of the earlier folder stays")
        left = sorted(path.name for path in Path(place).iterdir())
        require(left == ["adapter"], f"left beside the folder: {', '.join(left)}")


def _disabled_it_is_the_base_model(of: MethodSubject) -> None:
    _has_an_adapter(of)
    _leaves_the_base(of)
    ids_BT, _ = tiny_batch()
    tuned = of.tuned()
    with tuned.disable_adapter():
        off = logits(tuned, ids_BT)
    close(off, logits(of.base(), ids_BT), 0.0, "with the adapter off")
    require(not logits(tuned, ids_BT).equal(off), "with the adapter on nothing changes")


def _merged_equals_unmerged(of: MethodSubject) -> None:
    ids_BT, _ = tiny_batch()
    tuned = of.tuned()
    if not of.method.mergeable:
        refused(
            lambda: of.method.merge(tuned),
            MethodError,
            "cannot be merged",
            what="merging, not mergeable,",
        )
        return
    unmerged = logits(tuned, ids_BT)
    close(logits(of.method.merge(tuned), ids_BT), unmerged, 1e-5, "merged")


def _padded(of: MethodSubject, architecture: str) -> None:
    import torch

    ids_BT, mask_BT = tiny_batch()
    method, tuned = of.method, of.tuned(architecture)
    if not method.batched:
        refused(
            lambda: method.inputs(tuned, ids_BT, mask_BT),
            MethodError,
            "generate",
            what="a batch, for a method that is not batched,",
        )
        return
    with torch.no_grad():
        padded = method.decoder(tuned)(**method.inputs(tuned, ids_BT, mask_BT)).logits
    for row, (ids_T, mask_T) in enumerate(zip(ids_BT, mask_BT, strict=True)):
        n = int(mask_T.sum())
        close(padded[row, -n:], logits(tuned, ids_T[-n:][None])[0], 2e-5, f"row {row} in a batch")


def _generation_with_cache_equals_generation_without(of: MethodSubject) -> None:
    import torch

    method, tuned = of.method, of.tuned()
    if not method.batched:
        raise NotApplicable("its prompt is in the cache")
    ids_BT, mask_BT = tiny_batch()
    decoder: Any = method.decoder(tuned)
    with torch.no_grad():
        inputs = method.inputs(tuned, ids_BT, mask_BT)
        first = decoder(**inputs, use_cache=True)
        new_B = first.logits[:, -1].argmax(-1)
        inputs = method.inputs(tuned, ids_BT, mask_BT)
        ones = mask_BT.new_ones(len(mask_BT), 1)
        cached = decoder(
            input_ids=new_B[:, None],
            attention_mask=torch.cat([inputs["attention_mask"], ones], dim=1),
            position_ids=inputs["position_ids"][:, -1:] + 1,
            past_key_values=first.past_key_values,
            use_cache=True,
        ).logits[:, -1]
        longer = torch.cat([ids_BT, new_B[:, None]], dim=1), torch.cat([mask_BT, ones], dim=1)
        whole = decoder(**method.inputs(tuned, *longer)).logits[:, -1]
    close(cached, whole, 2e-5, "with a cache")


def _generate_is_the_same_in_a_left_padded_batch(of: MethodSubject) -> None:
    ids_BT, mask_BT = tiny_batch()
    tuned = of.tuned()
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    together = tuned.generate(input_ids=ids_BT, attention_mask=mask_BT, **settings)
    for row, mask_T in enumerate(mask_BT):
        n = int(mask_T.sum())
        ids, mask = ids_BT[row : row + 1, -n:], mask_BT[row : row + 1, -n:]
        alone = tuned.generate(input_ids=ids, attention_mask=mask, **settings)[0].tolist()
        found = together[row, -n - 6 :].tolist()
        require(found == alone, f"row {row}: {found} in a batch, {alone} alone")


def _an_unknown_option_is_refused_by_name(of: MethodSubject) -> None:
    wrong, shape = {"botleneck_size": 8}, Shape.from_config(tiny_config())
    for act, what in (
        (lambda: of.method.apply(of.base(), wrong), "apply with option 'botleneck_size'"),
        (lambda: of.method.n_trainable(shape, wrong), "n_trainable with option 'botleneck_size'"),
    ):
        refused(act, MethodError, "has no option 'botleneck_size'", what=what)


def _options_are_fields_of_the_peft_config(of: MethodSubject) -> None:
    import dataclasses

    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    import astraios.peft  # noqa: F401

    kind = getattr(of.method, "peft_type", None)
    if kind is None:
        raise NotApplicable("is no method of PEFT")
    config: Any = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)]
    fields = {one.name for one in dataclasses.fields(config)}
    named = {*getattr(of.method, "defaults", ()), *getattr(of.method, "more_options", ())}
    require(named <= fields, f"{config.__name__} has no {', '.join(sorted(named - fields))}")


def _a_tuned_model_is_not_tuned_again(of: MethodSubject) -> None:
    _has_an_adapter(of)
    tuned = of.tuned()
    refused(lambda: of.method.apply(tuned), MethodError, "already tuned", what="tuning twice")


def _has_an_adapter(of: MethodSubject) -> None:
    if all(of.method.overwrites(name) for name in trainable(of.tuned())):
        raise NotApplicable("trains weights of the base and adds none")


def _leaves_the_base(of: MethodSubject) -> None:
    if of.method.alters_base:
        raise NotApplicable("takes what it trains out of the base")


def _on(
    check: Callable[[MethodSubject, str], None], words: str, architectures: tuple[str, ...]
) -> Iterator[Property[MethodSubject]]:
    for name in architectures:

        def on(of: MethodSubject, name: str = name) -> None:
            check(of, name)

        yield Property(f"{words} on {name}", on)


CONTRACT: tuple[Property[MethodSubject], ...] = (
    *properties(
        _it_is_found_by_its_name,
        _it_says_what_it_is,
        _trainable_count_is_the_formulas,
        _base_weights_are_frozen_and_unchanged,
        _gradient_reaches_every_new_weight,
        _twenty_steps_lower_the_loss,
        _saved_and_loaded_gives_equal_logits,
        _loaded_for_training_it_goes_on_as_if_never_saved,
        _saving_twice_replaces_the_folder,
        _disabled_it_is_the_base_model,
        _merged_equals_unmerged,
        _generation_with_cache_equals_generation_without,
        _generate_is_the_same_in_a_left_padded_batch,
        _an_unknown_option_is_refused_by_name,
        _options_are_fields_of_the_peft_config,
        _a_tuned_model_is_not_tuned_again,
    ),
    *_on(_counted, "the formula holds", COUNTED_ON),
    *_on(_padded, "left padded rows equal rows alone", PADDED_ON),
)
