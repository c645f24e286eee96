# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Fine-tuning of UM-MAE's pyramids on ImageNet-1K at 256 px, as published: MAE's
# recipe with other rates and layers' decay.
_base_ = ['mmpretrain::mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py']
_train, _test = _base_.train_pipeline, _base_.test_pipeline
train_pipeline = [_train[0], dict(_train[1], scale=256), *_train[2:]]
test_pipeline = [
    _test[0], _test[1], dict(type='CenterCrop', crop_size=256), _test[3]]
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffmae.UMSwin',
        arch='tiny',
        img_size=256,
        patch_size=16,
        drop_path_rate=0.1,
        out_type='avg_featmap',
        init_cfg=dict(type='Pretrained', checkpoint='', prefix='backbone.')))
optim_wrapper = dict(
    type='mmeffmae.BFloat16OptimWrapper',  # on GPUs that have it
    accumulative_counts=2,
    clip_grad=None,
    paramwise_cfg=dict(
        _delete_=True,
        layer_decay_rate=0.85,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={'.pos_embed': dict(decay_mult=0.0)}))
default_hooks = dict(load_report=dict(type='mmeffmae.LoadReportHook'))
