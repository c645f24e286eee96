# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# A linear probe by MAE's recipe; the paper has none.
# The pre-trained checkpoint, ours or the official one, or an exported backbone:
#     --cfg-options model.backbone.init_cfg.checkpoint=FILE
_base_ = [
    'mmpretrain::mae/benchmarks/vit-base-p16_8xb2048-linear-coslr-90e_in1k.py'
]
_train, _test = _base_.train_pipeline, _base_.test_pipeline
train_dataloader = dict(
    dataset=dict(pipeline=[_train[0], dict(_train[1], scale=256), *_train[2:]]))
val_dataloader = dict(
    dataset=dict(pipeline=[
        _test[0], _test[1], dict(type='CenterCrop', crop_size=256), _test[3]]))
test_dataloader = val_dataloader
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffmae.UMSwin',
        arch='tiny',
        img_size=256,
        patch_size=16,
        frozen_stages=4,
        init_cfg=dict(type='Pretrained', checkpoint='', prefix='backbone.')),
    neck=[
        dict(type='GlobalAveragePooling'),
        dict(type='ClsBatchNormNeck', input_features=768)
    ],
    head=dict(type='LinearClsHead', in_channels=768))
default_hooks = dict(load_report=dict(type='mmeffmae.LoadReportHook'))
