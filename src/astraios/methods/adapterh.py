"""AdapterH: two bottleneck adapters inside each MLP, as in the study.

    y = W_1 (x + s * delta_1(x))        on the layers that read the MLP's normalised input
    z = W_2 a + s * delta_2(W_2 a)      on the MLP's output, before the residual addition
    delta(z) = W_up tanh(W_down z)

Named after Houlsby et al. 2019 (arXiv:1902.00751), but not their layout, which has one adapter
after the attention and one after the MLP: that is `placement: houlsby`. For GPTBigCode: before
`c_fc` and after `mlp.c_proj` (Zhuo et al. 2024, arXiv:2401.00788).

Parameters: per block `2 M d` for each adapter; for GPTBigCode `4 d M`, M = 256.
"""

from astraios.methods._bottleneck_method import bottleneck_method

method = bottleneck_method(
    "adapterh", "AdapterH", "Houlsby et al. 2019, arXiv:1902.00751; layout of arXiv:2401.00788"
)
