# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Frozen features of a labelled dataset."""
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Union

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module in eval mode without gradients, then restore each part.

    The mode of every submodule is remembered, so that parts which training
    keeps in eval mode (frozen norms) stay so.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def pool_features(outputs: Union[Tensor, Sequence[Tensor]]) -> Tensor:
    """Pool a backbone's last output to one vector an image.

    Args:
        outputs: A tensor or a sequence of tensors, of which the last counts:
            a feature map ``(B, C, H, W)`` (averaged over H and W), tokens
            ``(B, L, C)`` (averaged over L) or vectors ``(B, C)`` (kept).

    Returns:
        Features ``(B, C)``, float32.

    Raises:
        ValueError: The last output has another number of dimensions.
    """
    last = outputs if isinstance(outputs, Tensor) else outputs[-1]
    if last.dim() == 4:
        last = last.mean(dim=(2, 3))
    elif last.dim() == 3:
        last = last.mean(dim=1)
    elif last.dim() != 2:
        raise ValueError(
            f'the backbone returned a tensor of shape {tuple(last.shape)}: '
            'the probes pool (B, C, H, W), (B, L, C) or (B, C); choose '
            "such an output with the backbone's out_type")
    return last.float()


def patch_tokens(outputs: Union[Tensor, Sequence[Tensor]]) -> Tensor:
    """The tokens of a backbone's last output, one by one.

    Args:
        outputs: As :func:`pool_features` takes them; of a feature map
            ``(B, C, H, W)`` every position is a token.

    Returns:
        Tokens ``(B, L, C)``, float16: all tokens of a dataset are kept.

    Raises:
        ValueError: The last output has no tokens.
    """
    last = outputs if isinstance(outputs, Tensor) else outputs[-1]
    if last.dim() == 4:
        last = last.flatten(2).transpose(1, 2)
    elif last.dim() != 3:
        raise ValueError(
            f'the backbone returned a tensor of shape {tuple(last.shape)}: the '
            'attentive probe reads (B, C, H, W) or (B, L, C); choose such an '
            "output with the backbone's out_type")
    return last.half()


def collate_images(samples: Sequence[dict]) -> dict:
    """Stack packed images of one size.

    Args:
        samples: Dicts with ``inputs`` (C, H, W) and ``data_samples``, as
            ``PackInputs`` makes them.

    Returns:
        ``inputs`` (B, C, H, W) and ``data_samples``, a list.

    Raises:
        ValueError: The images differ in size.
    """
    images = [sample['inputs'] for sample in samples]
    sizes = sorted({tuple(image.shape) for image in images})
    if len(sizes) > 1:
        raise ValueError(
            f'images of shapes {sizes[0]} and {sizes[-1]} in one batch of '
            'the probe: end its pipeline with a resize and a centre crop '
            'to one size')
    return dict(
        inputs=torch.stack(images),
        data_samples=[sample['data_samples'] for sample in samples])


def labelled_dataloader(dataset: Dataset,
                        batch_size: int = 256,
                        num_workers: int = 0) -> DataLoader:
    """A loader that visits a labelled dataset once and in order.

    It owns its generator, so that starting it draws nothing from the global
    random stream.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=num_workers,
        shuffle=False,
        collate_fn=collate_images,
        generator=torch.Generator().manual_seed(0))


def extract_features(
        backbone: nn.Module, dataloader: Iterable[dict],
        device: Union[str, torch.device],
        preprocessor: Callable[..., Any],
        read: Callable[[Any], Tensor] = pool_features
) -> tuple[Tensor, Tensor]:
    """Features and labels of all images of a loader.

    The backbone runs in eval mode without gradients and is left in the mode
    it came in.

    Args:
        backbone: Maps images ``(B, C, H, W)`` to what
            :func:`pool_features` takes.
        dataloader: Yields dicts with ``inputs`` and ``data_samples``.
        device: Where the backbone lives.
        preprocessor: The model's data preprocessor.
        read: Makes features of outputs: :func:`pool_features` or
            :func:`patch_tokens`.

    Returns:
        Features, ``(N, C)`` float32 or as ``read`` makes them, and labels
        ``(N,)`` int64, both on the CPU.

    Raises:
        ValueError: The loader is empty, or an image has no single label.
    """
    features, labels = [], []
    with evaluation_mode(backbone):
        for batch in dataloader:
            images = preprocessor(batch, False)['inputs'].to(device)
            features.append(read(backbone(images)).cpu())
            labels += [_label(sample) for sample in batch['data_samples']]
    if not features:
        raise ValueError(
            'the dataset of the probe holds no image: check its data_root '
            'and data_prefix')
    return torch.cat(features), torch.tensor(labels, dtype=torch.int64)


def _label(sample: Any) -> int:
    label = getattr(sample, 'gt_label', None)
    if label is None or label.numel() != 1:
        raise ValueError(
            f'an image of the probe has the label {label}: its dataset '
            'must give one class an image (with_label=True)')
    return int(label)
