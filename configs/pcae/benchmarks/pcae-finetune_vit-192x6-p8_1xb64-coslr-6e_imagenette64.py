# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Imagenette photographs on one CPU core. The pre-trained checkpoint, and the
# share of the tokens that is dropped:
#     --cfg-options model.backbone.init_cfg.checkpoint=FILE
#         model.backbone.drop_ratio=0.2
_base_ = [
    '../../_base_/models/classifier_vit-192x6-p8.py',
    '../../_base_/datasets/imagenette_64.py',
    '../../_base_/schedules/finetune_adamw.py',
    '../../_base_/schedules/coslr_6e.py',
    '../../_base_/default_runtime.py',
]
data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor')
custom_hooks = []
# Once, at the end: the validation photographs.
test_dataloader = dict(
    batch_size=256,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset={{_base_.probe_query}})
test_evaluator = dict(type='Accuracy', topk=(1, ))
test_cfg = dict()
