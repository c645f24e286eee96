# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What a training step costs, counted rather than timed."""
from collections.abc import Callable, Iterable
from typing import Optional

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

#: Parts that are counted apart, and where a pre-training model keeps them.
PARTS = dict(encoder='backbone', decoder='neck', teacher='teacher')


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Parameters of the parts that the model has, and ``total``.

    Frozen ones count, shared ones count once.
    """
    counts = {
        part: _size(getattr(model, place).parameters())
        for part, place in PARTS.items()
        if getattr(model, place, None) is not None
    }
    return dict(counts, total=_size(model.parameters()))


def _size(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def count_macs(
    model: nn.Module, images: Tensor, data_samples: Optional[list] = None
) -> dict[str, int]:
    """Multiply-adds of the forward pass, of one image.

    Matrix products, convolutions and attention count; element-wise work does
    not, as in every published figure.

    Args:
        model: A self-supervised model, in training mode.
        images: ``(B, C, H, W)``, on the device of the model.
        data_samples: What the model's loss reads beside the images.

    Returns:
        Of the parts that the model has, and ``total``.
    """
    flops = _flops(lambda: model(images, data_samples, mode='loss'))
    root = type(model).__name__
    counts = {
        part: flops.get(f'{root}.{place}', 0)
        for part, place in PARTS.items()
        if getattr(model, place, None) is not None
    }
    counts['total'] = flops['Global']
    return {part: count // (2 * len(images)) for part, count in counts.items()}


def count_forward_macs(module: nn.Module, images: Tensor) -> int:
    """Multiply-adds of ``module(images)``, of one image.

    Args:
        module: Such as an encoder.
        images: ``(B, C, H, W)``, on its device.
    """
    return _flops(lambda: module(images))['Global'] // (2 * len(images))


def _flops(compute: Callable[[], object]) -> dict[str, int]:
    # Torch counts no fused attention of the CPU; its unfused form is equal.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), \
            sdpa_kernel(SDPBackend.MATH):
        compute()
    return {
        name: sum(of_module.values())
        for name, of_module in counter.get_flop_counts().items()
    }


def saved_bytes(model: nn.Module, compute: Callable[[], Tensor]) -> int:
    """Bytes that a forward pass keeps for the backward pass.

    Every storage counts once and as a whole, whatever part of it is needed;
    parameters and buffers, which are there anyway, do not.

    Args:
        model: Whose parameters do not count.
        compute: Returns the loss.
    """
    present = {
        tensor.untyped_storage().data_ptr()
        for tensor in (*model.parameters(), *model.buffers())
    }
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        # A node that keeps its own output with its history is never freed.
        return tensor.detach()

    with saved_tensors_hooks(note, lambda tensor: tensor):
        loss = compute()
    # While the graph is alive, no address can be given to a second storage.
    del loss
    return sum(size for place, size in saved.items() if place not in present)
