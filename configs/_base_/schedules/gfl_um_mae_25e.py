# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# UM-MAE's detectors: 16 images a step, one cosine over epochs.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='float16',  # mmdet's kernels have no bfloat16
    loss_scale=dict(init_scale=512),
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
    constructor='mmeffmae.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=2000),
    dict(
        type='CosineAnnealingLR',
        T_max=25,
        eta_min=1e-6,
        by_epoch=True,
        end=25)
]
train_cfg = dict(by_epoch=True, max_epochs=25, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=16)
