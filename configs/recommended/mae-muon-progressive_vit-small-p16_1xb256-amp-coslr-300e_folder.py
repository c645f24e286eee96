# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Not run at this scale yet.
# Any folder of images:
#     --cfg-options train_dataloader.dataset.data_root=FOLDER
_base_ = ['./mae-muon_vit-small-p16_1xb256-amp-coslr-300e_folder.py']
# A quarter of the patches for the first 80 % of the iterations.
custom_hooks = [
    dict(
        type='mmeffmae.ProgressiveResolutionHook',
        phases=[dict(until=0.8, size=112)])
]
