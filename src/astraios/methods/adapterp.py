"""AdapterP: one bottleneck adapter after each MLP (Pfeiffer et al. 2021, arXiv:2005.00247).

    y = W x + s * delta(W x)        delta(z) = W_up tanh(W_down z)

`W` is the MLP's output projection; the adapter comes before the residual addition. For GPTBigCode:
after `mlp.c_proj` (Zhuo et al. 2024, arXiv:2401.00788).

Parameters: per block `2 d M`, M = 256.
"""

from astraios.methods._bottleneck_method import bottleneck_method

method = bottleneck_method(
    "adapterp", "AdapterP", "Pfeiffer et al. 2021, arXiv:2005.00247; layout of arXiv:2401.00788"
)
