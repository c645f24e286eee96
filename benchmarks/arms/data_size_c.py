# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# MAE from 500 photographs up to all, at equal views: the data-size curve. Two CPU
# cores, Imagenette at 64 px, about eight minutes of one core an arm and seed.
_photographs = 9469 - 1000  # of its training part, less those held out


def _arm(size):
    # Evenly spaced in the list, which is sorted by class: the shares of classes stay.
    chosen = [i * _photographs // size for i in range(size)]
    return dict(
        config='../../configs/mae/mae_vit-192x6-p8_1xb64-coslr-25e_imagenette64.py',
        options={'train_dataloader.dataset.indices': chosen})


baseline = 'mae-8469'
arms = {f'mae-{size}': _arm(size) for size in (500, 1000, 2500, 5000, 8469)}
# 154 epochs of 500 photographs, nine of all.
budget = dict(kind='views', amount=76800)
rates = (1, )  # scale_c tuned it, on all photographs
seeds = (0, 1)
tune_seed = 100
