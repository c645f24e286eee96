# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""EMAE in plain torch, as https://arxiv.org/abs/2302.14431 tells it.

Cut one random permutation of the patches into K visible parts, run MAE on
each, and pull together what two parts predict for a patch that both mask.
"""
import torch
from mae import normalise, patchify, predict


def parts(order, num_parts):
    """(K, B, N), bool: ``order`` (B, N) is a permutation of the patches."""
    size = order.shape[1] // num_parts
    visible = torch.zeros(num_parts, *order.shape, dtype=torch.bool)
    for k in range(num_parts):
        visible[k].scatter_(1, order[:, k * size:(k + 1) * size], True)
    return visible


def consistency(preds, visible):
    """Symmetric L1 with a stop-gradient on either side, as published.

    ``preds`` (K, B, N, D); the mean runs over images, pairs, all N and D.
    """
    total, pairs = 0., 0
    for i in range(len(preds)):
        for j in range(i + 1, len(preds)):
            both = (~visible[i] & ~visible[j])[..., None]
            total = total + (both * (preds[i].detach() - preds[j]).abs()).mean()
            total = total + (both * (preds[i] - preds[j].detach()).abs()).mean()
            pairs += 1
    return total / pairs


def emae_losses(images, order, num_parts, w, p, encoder, decoder):
    """Reconstruction over all parts, and self-consistency."""
    visible = parts(order, num_parts)
    preds = torch.stack([predict(images, v, w, p, encoder, decoder) for v in visible])
    error = ((preds - normalise(patchify(images, p)))**2).mean(-1)
    return error[~visible].mean(), consistency(preds, visible)
