# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Imagenette photographs at 112 px, all of them on the device: no workers.
_base_ = ['./imagenette112.py']
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    collate_fn=dict(type='mmeffmae.whole_batch'),
    dataset=dict(
        _delete_=True,
        type='mmeffmae.DeviceImages',
        scale=112,
        store=112,
        crop_ratio_range=(0.2, 1.0),
        # Its pipeline augments the images of fine-tuning probes alone.
        dataset=dict(
            **_base_._photographs, split='train', pipeline=_base_.train_pipeline)))
