"""Parallel: a bottleneck adapter beside each attention projection.

    y = W x + s * delta(x)        delta(x) = W_up tanh(W_down x)

He et al. 2022 (arXiv:2110.04366) put it beside the MLP, which is `placement: parallel_mlp`; the
study puts it beside the projections of query, key and value (Zhuo et al. 2024, arXiv:2401.00788).
For GPTBigCode, where these are one layer: beside `c_attn`.

Parameters: per block `M (in + out)` of each target; for GPTBigCode `M (2 d + 2 k)`, M = 256.
"""

from astraios.methods._bottleneck_method import bottleneck_method

method = bottleneck_method(
    "parallel", "Parallel", "He et al. 2022, arXiv:2110.04366; layout of arXiv:2401.00788"
)
