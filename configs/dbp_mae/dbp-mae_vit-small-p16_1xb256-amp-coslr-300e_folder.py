# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# Any folder of images:
#     --cfg-options train_dataloader.dataset.data_root=FOLDER
_base_ = ['../mae/mae_vit-small-p16_1xb256-amp-coslr-300e_folder.py']
custom_hooks = [dict(type='mmeffmae.DecorrelationHook')]
