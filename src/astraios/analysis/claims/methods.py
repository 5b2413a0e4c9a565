"""Claims about methods: full tuning is best, the adapter to use depends on the size, LoRA balances.

All differences are between scores averaged over tasks, of one base model, on the same problems.
"""

from __future__ import annotations

from dataclasses import replace
from math import log10

import numpy as np

from astraios.analysis import style
from astraios.analysis.claims.evidence import Block, Evidence, Finding, Test, all_hold
from astraios.analysis.claims.wording import more_data, points, seedless
from astraios.analysis.draws import Estimate

MARGIN = 0.01
"""A difference in score that makes no method the better choice: one point."""
LORA = "lora"


def fft_is_best(evidence: Evidence) -> Finding:
    """A. At every size FFT lies above the mean of the others, and none is a point above FFT."""
    blocks = _with(evidence, style.FULL)
    if not blocks:
        return _nothing(f"{style.title(style.FULL)} and another method on the same task")
    tests = []
    for block in blocks:
        others = [method for method in block.methods if method != style.FULL]
        share = dict.fromkeys(others, -1 / len(others))
        ahead = evidence.difference(block, {style.FULL: 1.0, **share})
        tests.append(Test(f"FFT − mean of the others ({block.model})", ahead, 0.0))
        for other in others:
            pair = evidence.difference(block, {style.FULL: 1.0, other: -1.0})
            name = f"FFT − {style.title(other)} ({block.model})"
            tests.append(Test(name, pair, -MARGIN))
    found = _finding(evidence, blocks, tests, "at every size")
    alone = _one_size(blocks)
    if found.missing:
        found = replace(found, seen=_leads(evidence, blocks))
    return replace(found, p_for=1.0, partial=alone) if alone else found


def _leads(evidence: Evidence, blocks: list[Block]) -> str:
    """In how many comparisons with single methods FFT leads, in words."""
    ahead = []
    for block in blocks:
        scores = evidence.scores(block)(evidence.draws.score_MK)
        score = dict(zip(block.methods, scores, strict=True))
        full = score.pop(style.FULL)
        ahead += [float(full - other) for other in score.values()]
    n_ahead = sum(difference > 0 for difference in ahead)
    every = n_ahead == len(ahead) > 1
    least = f" by {100 * min(ahead):.1f} points or more" if every else ""
    told = f"all {n_ahead}" if every else f"{n_ahead} of {len(ahead)}"
    with_one = f"comparison{'' if len(ahead) == 1 else 's'} with another method"
    return f"{style.title(style.FULL)} leads in {told} {with_one}{least} on these trained models"


def adapter_depends_on_size(evidence: Evidence) -> Finding:
    """B. No single adapter method is within a point of the best one at every size."""
    blocks = [
        block
        for model in evidence.sizes
        if (block := evidence.block(model, _adapters(evidence))) and len(block.methods) > 1
    ]
    everywhere = [m for m in _adapters(evidence) if all(m in block.methods for block in blocks)]
    if not blocks or len(everywhere) < 2:
        return _nothing("two adapter methods, judged with every base model")
    behind = {
        method: [
            Test(
                f"{style.title(rival)} − {style.title(method)} ({block.model})",
                evidence.difference(block, {rival: 1.0, method: -1.0}),
                MARGIN,
            )
            for block in blocks
            for rival in everywhere
            if rival != method
        ]
        for method in everywhere
    }
    # Against one method: some rival is ahead of it somewhere. The claim needs that of each method.
    away = {m: min(1.0, len(own) * min(t.p_for for t in own)) for m, own in behind.items()}
    # For one method: nobody is ahead of it anywhere. The claim fails if that holds of any method.
    serves = {m: max(t.p_against for t in own) for m, own in behind.items()}
    p_for, p_against = max(away.values()), min(1.0, len(serves) * min(serves.values()))
    name = min(everywhere, key=lambda method: max(t.estimate.value for t in behind[method]))
    worst = max(behind[name], key=lambda test: test.estimate.value)
    leaders = [
        f"{block.model}: {style.title(_leader(evidence, block, everywhere))}" for block in blocks
    ]
    return Finding(
        f"ahead: {'; '.join(leaders)}. {style.title(name)} comes closest to serving every size: at "
        f"worst {points(worst.estimate)} ({worst.name})",
        evidence.told(blocks),
        evidence.counted(blocks),
        p_for,
        p_against,
        worst.estimate.interval,
        MARGIN,
        "points",
        missing=_because(_one_size(blocks), seedless(evidence)),
        needed=more_data(
            worst, len(behind[name]) if p_for > p_against else 1, against=p_against < p_for
        ),
    )


def lora_balances_best(evidence: Evidence) -> Finding:
    """C. LoRA's gain, times the factor of trained parameters it saves (log10), is the largest.

    That product is the area of the plane of gain and log parameters that a method alone dominates
    (its hypervolume), measured from the corner "train everything, gain nothing".
    """
    blocks = []
    for model in evidence.sizes:
        priced = [m for m in evidence.tuned(model) if evidence.trainable.get((model, m))]
        block = evidence.block(model, priced, keep=LORA)
        if block and LORA in block.methods and len(block.methods) > 1:
            blocks.append(block)
    if not blocks:
        return _nothing(
            f"{style.title(LORA)} and another method on the same task, both with their trained "
            "parameters"
        )
    others = style.order({m for block in blocks for m in block.methods} - {LORA})
    tests = []
    for other in others:
        own = [block for block in blocks if other in block.methods]
        estimate = _mean_difference(evidence, own, other)
        tests.append(Test(f"LoRA − {style.title(other)}", estimate, 0.0))
    based = all(_based(evidence, block) for block in blocks)
    found = _finding(evidence, blocks, tests, "over all sizes", "point-decades")
    start = "the untuned base" if based else "a score of zero (the base was not judged everywhere)"
    return replace(found, data=f"{found.data}; gain over {start}")


def _mean_difference(evidence: Evidence, blocks: list[Block], other: str) -> Estimate:
    """Balance of LoRA less that of `other`, averaged over `blocks`."""
    weight_MK = np.zeros(evidence.draws.score_MK.shape)
    for block in blocks:
        saved = {m: _decades(evidence, block, m) for m in (LORA, other)}
        weight = {LORA: saved[LORA], other: -saved[other]}
        if _based(evidence, block):
            weight[style.BASE] = saved[other] - saved[LORA]
        columns = [evidence.draws.tasks.index(task) for task in block.tasks]
        for method, value in weight.items():
            row = evidence.draws.row(block.model, method)
            weight_MK[row, columns] += value / len(columns) / len(blocks)
    return evidence.draws.linear(weight_MK)


def _decades(evidence: Evidence, block: Block, method: str) -> float:
    """log10 of how many times fewer parameters than the model has are trained."""
    return max(0.0, log10(block.size / evidence.trainable[block.model, method]))


def _based(evidence: Evidence, block: Block) -> bool:
    return all(evidence.draws.judged(block.model, style.BASE, task) for task in block.tasks)


def _with(evidence: Evidence, method: str) -> list[Block]:
    found = [evidence.block(model, keep=method) for model in evidence.sizes]
    return [
        block for block in found if block and method in block.methods and len(block.methods) > 1
    ]


def _adapters(evidence: Evidence) -> list[str]:
    methods = {m for model in evidence.sizes for m in evidence.tuned(model)}
    return list(style.order(methods - {style.FULL}))


def _leader(evidence: Evidence, block: Block, methods: list[str]) -> str:
    score = dict(zip(block.methods, evidence.scores(block)(evidence.draws.score_MK), strict=True))
    return max(methods, key=lambda method: score[method])


def _finding(
    evidence: Evidence, blocks: list[Block], tests: list[Test], where: str, unit: str = "points"
) -> Finding:
    """The finding that every test holds."""
    p_for, p_against, weakest, strongest = all_hold(tests)
    against = p_against < p_for
    test = strongest if against else weakest
    bound = f"{100 * test.threshold:+.0f}".replace("-", "−") if test.threshold else "0"
    what = "the clearest against" if against else "the weakest"
    return Finding(
        f"{test.name}: {points(test.estimate, unit)}; {what} of {len(tests)} comparisons "
        f"{where}, which must lie above {bound}",
        evidence.told(blocks),
        evidence.counted(blocks),
        p_for,
        p_against,
        test.estimate.interval,
        test.threshold,
        unit,
        missing=seedless(evidence),
        needed=more_data(test, len(tests) if against else 1, against=against),
    )


def _one_size(blocks: list[Block]) -> str:
    return "" if len(blocks) > 1 else f"one size ({blocks[0].model}): the claim is about several"


def _because(*reasons: str) -> str:
    return "; ".join(reason for reason in reasons if reason)


def _nothing(what: str) -> Finding:
    return Finding("nothing", "nothing", "0", missing=f"not judged: {what}")
