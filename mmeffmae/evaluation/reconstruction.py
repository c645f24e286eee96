# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What pre-training minimises, on photographs that it did not see."""
from typing import Union

import torch
from torch import nn
from torch.utils.data import Dataset

from .features import evaluation_mode, labelled_dataloader
from .rng import isolated_rng


def explained_variance(
    model: nn.Module,
    dataset: Dataset,
    device: Union[str, torch.device] = 'cpu',
    draws: int = 2,
    batch_size: int = 250,
) -> float:
    """Percent of the variance within hidden patches that a model reconstructs.

    Patches are normalised to a variance of 1, so this is 100 (1 - loss): nothing
    for their mean alone, 100 for the pixels. Models of equal masking get equal
    masks on one kind of device; what other masks hide is no comparison.

    Args:
        model: A :class:`mmeffmae.models.MaskedAutoencoder` whose head
            reconstructs normalised pixels, on ``device``.
        dataset: Photographs, prepared without chance.
        device: Where the model lives.
        draws: Masks drawn of each photograph.
        batch_size: Photographs at once.

    Raises:
        ValueError: The model reconstructs something else.
    """
    head = getattr(model, 'head', None)
    if not getattr(head, 'norm_pix', False):
        raise ValueError(
            f'{type(model).__name__} with {type(head).__name__} does not '
            'reconstruct normalised pixels, whose variance is known (probe '
            'explained): use another probe')
    loss = 0.
    with isolated_rng(0), evaluation_mode(model):
        for _ in range(draws):
            for batch in labelled_dataloader(dataset, batch_size, num_workers=0):
                data = model.data_preprocessor(batch)
                terms = model(**data, mode='loss')
                share = len(data['inputs']) / (draws * len(dataset))
                loss += share * float(terms['loss_recon'])
    return 100 * (1 - loss)
