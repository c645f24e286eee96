# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""How far predictions of the same patch under different masks lie apart.

EMAE (https://arxiv.org/abs/2302.14431) says that masked autoencoders predict
a patch differently in every round of masking; its own measure is not public.
This one reads any encoder and decoder of pixels, whatever masking they were
trained with: photographs are cut into disjoint parts several times, and every
patch is predicted from each part that it is not in. Distances stand beside
the reconstruction error, since blurred predictions agree too.
"""
from collections.abc import Sequence
from typing import Union

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from torch import Tensor, nn
from torch.utils.data import Subset

from mmeffmae.masking import MaskPlan, ParallelMasking, gather_views
from mmeffmae.randomness import mix_key

from .features import evaluation_mode, labelled_dataloader

#: What is measured of each photograph, all in the space of per-patch
#: normalised pixels: mean pairwise L1 distance of the predictions of a patch,
#: their unbiased variance, and the mean squared error of a prediction.
QUANTITIES = ('mad', 'variance', 'mse')
#: What is reported: those, and the first two over the last.
REPORTED = (*QUANTITIES, 'mad_over_mse', 'variance_over_mse')


def evenly_spaced(size: int, count: int) -> list[int]:
    """``count`` positions of ``size``, or all of them, without chance."""
    count = min(count, size)
    return [(2 * i + 1) * size // (2 * count) for i in range(count)]


def mean_pairwise_distance(values: Tensor) -> Tensor:
    """Mean L1 distance over all pairs of the second last dimension.

    Args:
        values: ``(..., n, D)`` with n at least 2.

    Returns:
        ``(..., D)``. The sum over pairs is the sum over ranks r of
        (2r - n + 1) times the value of that rank.
    """
    num = values.size(-2)
    weight = torch.arange(
        1 - num, num, 2, device=values.device, dtype=values.dtype)
    total = weight @ values.sort(dim=-2).values
    return total / (num * (num - 1) / 2)


def _normalise(patches: Tensor, reference: Tensor) -> Tensor:
    """Patches by mean and unbiased variance of the reference's patches."""
    var, mean = torch.var_mean(reference, dim=-1, keepdim=True)
    return (patches - mean) / (var + 1e-6).sqrt()


def _plan(
    masking: ParallelMasking, grid: tuple[int, int], keys: Sequence[int],
    device: Union[str, torch.device],
) -> MaskPlan:
    """A plan whose noise depends on each image's key alone."""
    noise = torch.stack([
        torch.rand(grid, generator=torch.Generator().manual_seed(key))
        for key in keys
    ])
    return masking(noise.to(device))


def predictions_by_patch(
    model: nn.Module, images: Tensor, plans: Sequence[MaskPlan]
) -> Tensor:
    """What the model predicts for each patch, under each plan.

    Args:
        model: A ``MaskedAutoencoder`` of pixels.
        images: ``(B, C, H, W)``, preprocessed.
        plans: R plans of K disjoint parts that use all patches.

    Returns:
        ``(B, N, R·(K - 1), p·p·C)``, fp32, as the model's head defines it.
    """
    predictions = []
    for plan in plans:
        flat = model.predict(images, plan).float()
        flat = flat.reshape(len(images), -1, flat.size(-1))
        # In the order of patches, since every one is in a part.
        group, = plan.groups_of_same_patch()
        predictions.append(
            gather_views(flat, group).unflatten(0, group.shape[:2]))
    return torch.cat(predictions, dim=2)


def _measure_batch(
    model: nn.Module, images: Tensor, plans: Sequence[MaskPlan]
) -> Tensor:
    """``(B, 3)``: the quantities of each photograph."""
    patches = model.head.patchify(images.float())
    predictions = predictions_by_patch(model, images, plans)
    if predictions.size(-1) != patches.size(-1):
        raise ValueError(
            f'the model predicts {predictions.size(-1)} values a patch of '
            f'{patches.size(-1)} pixel values: the consistency measure reads '
            'models that predict pixels')
    target = _normalise(patches, patches).unsqueeze(2)
    if not model.head.norm_pix:
        predictions = _normalise(predictions, patches.unsqueeze(2))
    return torch.stack([
        mean_pairwise_distance(predictions).mean(dim=(1, 2)),
        predictions.var(dim=2).mean(dim=(1, 2)),
        (predictions - target).square().mean(dim=(1, 2, 3)),
    ], dim=1)


def measure_consistency(
    model: nn.Module,
    dataset: BaseDataset,
    indices: Sequence[int],
    partitions: int = 8,
    num_parts: int = 4,
    seed: int = 0,
    device: Union[str, torch.device] = 'cpu',
    batch_size: int = 25,
    num_workers: int = 0,
) -> dict[str, np.ndarray]:
    """Measure each photograph.

    The partitions of a photograph depend on the seed and on its place in
    ``indices`` alone, so that models are compared under equal masks.

    Args:
        model: A ``MaskedAutoencoder`` of pixels, on ``device``.
        dataset: Photographs.
        indices: Which of them.
        partitions: How often each is cut, R.
        num_parts: Into how many parts, K.
        seed: Names the partitions.
        device: Where the model lives.
        batch_size: Photographs at a time.
        num_workers: Worker processes of the loader.

    Returns:
        Of each of :data:`QUANTITIES` one float64 a photograph.

    Raises:
        ValueError: K does not divide the number of patches, a patch gets
            less than two predictions, or the model predicts no pixels.
    """
    if partitions * (num_parts - 1) < 2:
        raise ValueError(
            f'{partitions} partition(s) into {num_parts} parts give a patch '
            'less than two predictions to compare: use more')
    masking = ParallelMasking(num_parts)
    loader = labelled_dataloader(
        Subset(dataset, indices), batch_size, num_workers)
    results: list[Tensor] = []
    with evaluation_mode(model):
        for batch in loader:
            images = model.data_preprocessor(batch, False)['inputs'].to(device)
            grid = model.backbone.patch_grid(tuple(images.shape[-2:]))
            if grid[0] * grid[1] % num_parts:
                raise ValueError(
                    f'{num_parts} parts do not divide the {grid[0]} x {grid[1]} '
                    'patches of an image: use a number of parts that does')
            first = sum(map(len, results))
            plans = [
                _plan(masking, grid,
                      [mix_key(seed, first + i, partition)
                       for i in range(len(images))], device)
                for partition in range(partitions)
            ]
            results.append(_measure_batch(model, images, plans).cpu())
    table = torch.cat(results).double().numpy()
    return dict(zip(QUANTITIES, table.T))


def _reported(means: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(
        means,
        mad_over_mse=means['mad'] / means['mse'],
        variance_over_mse=means['variance'] / means['mse'])


def _resampled(
    values: dict[str, np.ndarray], resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """Every reported number: of all photographs, then of each resample."""
    count = len(values['mse'])
    draws = np.random.default_rng(seed).multinomial(
        count, np.full(count, 1 / count), size=resamples)
    weights = np.concatenate([np.ones((1, count)), draws]) / count
    return _reported({name: weights @ values[name] for name in QUANTITIES})


def _interval(numbers: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(numbers[1:], [0.025, 0.975])
    return dict(value=float(numbers[0]), low=float(low), high=float(high))


def summarise(
    values: dict[str, np.ndarray], resamples: int = 10_000, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Each of :data:`REPORTED` with its 95 % interval.

    Percentile bootstrap over photographs; a ratio is one of means.

    Args:
        values: Of :func:`measure_consistency`.
        resamples: Number of resamples.
        seed: Of the resampling.

    Returns:
        ``value``, ``low`` and ``high`` by name.
    """
    numbers = _resampled(values, resamples, seed)
    return {name: _interval(numbers[name]) for name in REPORTED}


def compare(
    values: dict[str, np.ndarray],
    others: dict[str, np.ndarray],
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, dict[str, dict[str, float]]]:
    """One model against another on the same photographs.

    Args:
        values: Of :func:`measure_consistency`, for one model.
        others: The same for the other one; both are resampled together.
        resamples: Number of resamples.
        seed: Of the resampling.

    Returns:
        Of each of :data:`REPORTED` the ``difference`` (first minus second)
        and the ``ratio`` (first over second), each with its 95 % interval.

    Raises:
        ValueError: The numbers of photographs differ.
    """
    if len(values['mse']) != len(others['mse']):
        raise ValueError(
            f'{len(values["mse"])} and {len(others["mse"])} photographs cannot '
            'be compared in pairs: measure both models on the same')
    first = _resampled(values, resamples, seed)
    second = _resampled(others, resamples, seed)
    return {
        name: dict(
            difference=_interval(first[name] - second[name]),
            ratio=_interval(first[name] / second[name]))
        for name in REPORTED
    }
