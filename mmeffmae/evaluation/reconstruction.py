# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What pre-training minimises, on photographs that it did not see."""
from torch import nn
from torch.utils.data import Dataset

from .features import evaluation_mode, labelled_dataloader
from .rng import isolated_rng

#: Photographs at once: the masks depend on it.
_BATCH = 250


def explained_variance(
    model: nn.Module, dataset: Dataset, draws: int = 2, num_workers: int = 0
) -> float:
    """Percent of the variance within hidden patches that a model reconstructs.

    Patches are normalised to a variance of 1, so this is 100 (1 - loss). Flat
    ones have none and count as reconstructed. Models of equal masking get equal
    masks on one kind of device; what other masks hide is no comparison.

    Args:
        model: A :class:`mmeffmae.models.MaskedAutoencoder` whose head
            reconstructs normalised pixels by their squared error.
        dataset: Photographs, prepared without chance.
        draws: Masks drawn of each photograph.
        num_workers: Worker processes that load.

    Raises:
        ValueError: The model reconstructs something else.
    """
    head = getattr(model, 'head', None)
    penalty = getattr(getattr(head, 'loss_module', None), 'penalty', None)
    if not isinstance(penalty, nn.MSELoss) or not getattr(head, 'norm_pix', False):
        raise ValueError(
            f'{type(model).__name__} with {type(head).__name__} does not '
            'reconstruct normalised pixels by their squared error (probe '
            'explained): use another probe')
    loss = 0.
    with isolated_rng(0), evaluation_mode(model):
        for _ in range(draws):
            for batch in labelled_dataloader(dataset, _BATCH, num_workers):
                data = model.data_preprocessor(batch)
                terms = model(**data, mode='loss')
                share = len(data['inputs']) / (draws * len(dataset))
                loss += share * float(terms['loss_recon'])
    return 100 * (1 - loss)
