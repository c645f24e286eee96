# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# MAE's optimizer (arXiv 2111.06377, appendix A.1): 1.5e-4 for 256 images.
# Training scales the rate to the effective batch (images x ranks x
# accumulation) over base_batch_size.
optim_wrapper = dict(
    type='mmeffmae.BFloat16OptimWrapper',  # on GPUs that have it
    optimizer=dict(
        type='AdamW',
        lr=1.5e-4 * 4096 / 256,
        betas=(0.9, 0.95),
        weight_decay=0.05,
        fused=True),  # one pass over the weights, on CPU and GPU
    constructor='mmeffmae.GroupedOptimWrapperConstructor',
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            'pos_embed': dict(decay_mult=0.0),
            'mask_token': dict(decay_mult=0.0),
            'cls_token': dict(decay_mult=0.0)
        }))
auto_scale_lr = dict(base_batch_size=4096)
