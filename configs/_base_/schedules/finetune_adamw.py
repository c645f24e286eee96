# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# MAE's fine-tuning (arXiv 2111.06377, appendix A.1) for short runs on small
# data: the rate of the probes in mmeffmae/evaluation/finetune.py.
optim_wrapper = dict(
    type='mmeffmae.BFloat16OptimWrapper',  # on GPUs that have it
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    constructor='mmeffmae.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.75))
