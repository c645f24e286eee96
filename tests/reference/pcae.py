# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""PCAE in plain torch, as its figure and the public code tell it (ICLR 2023).

A student encodes a few patches. A teacher, its moving average, encodes all
others and throws away those that resemble the mean most. The student's
decoder predicts what the teacher says of the few that are left. ``w`` is a
state dict; the teacher's weights are under ``teacher.module``.
"""
import torch
from mae import block, encode
from torch.nn import functional as F


def take(rows, ids):
    """(B, N, C) and (B, M) -> (B, M, C)."""
    return torch.stack([row[i] for row, i in zip(rows, ids)])


def least_similar(x, count):
    """Of each sequence the ``count`` tokens least like its mean: (B, count)."""
    unit = x / x.norm(dim=-1, keepdim=True)
    similarity = torch.stack([u @ u.mean(0) for u in unit])
    return similarity.argsort(1)[:, :count]


@torch.no_grad()
def teach(images, ids, w, p, depth, heads, drops):
    """Features of the retained patches, and which they are."""
    name = 'teacher.module'
    kernel = w[f'{name}.patch_embed.projection.weight']
    bias = w[f'{name}.patch_embed.projection.bias']
    x = F.conv2d(images, kernel, bias, stride=p).flatten(2).transpose(1, 2)
    x = take(x + w[f'{name}.pos_embed'][:, 1:], ids)  # no class token
    for i in range(depth):
        x = block(x, w, f'{name}.layers.{i}', heads)
        if i in drops:
            kept = least_similar(x, x.shape[1] // 2)
            x, ids = take(x, kept), take(ids, kept)
    weight, bias = w[f'{name}.ln1.weight'], w[f'{name}.ln1.bias']
    return F.layer_norm(x, x.shape[-1:], weight, bias, 1e-6), ids


def predict(latent, visible, retained, w, depth, heads):
    """(B, R, C): class token, visible patches, one mask token a retained one."""
    positions = w['neck.decoder_pos_embed'][0]
    x = F.linear(latent, w['neck.decoder_embed.weight'], w['neck.decoder_embed.bias'])
    seen = torch.stack([positions[1:][row] for row in visible])
    x = x + torch.cat([positions[:1].expand(len(x), 1, -1), seen], 1)
    x = torch.cat([x, w['neck.mask_token'] + positions[1 + retained]], 1)
    for i in range(depth):
        x = block(x, w, f'neck.decoder_blocks.{i}', heads)
    x = F.layer_norm(x, x.shape[-1:], w['neck.ln1.weight'], w['neck.ln1.bias'], 1e-6)
    x = F.linear(x, w['neck.decoder_pred.weight'], w['neck.decoder_pred.bias'])
    return x[:, -retained.shape[1]:]


def pcae_loss(images, order, num_seen, w, p, encoder, decoder, drops):
    """``order`` (B, N), a permutation: the first ``num_seen`` are the student's."""
    visible = torch.zeros_like(order, dtype=torch.bool)
    visible = visible.scatter(1, order[:, :num_seen], True)
    target, retained = teach(images, order[:, num_seen:], w, p, *encoder, drops)
    latent = encode(images, visible, w, p, *encoder)
    pred = predict(latent, visible, retained, w, *decoder)
    # The cosine does not see the variance to which targets are scaled.
    target = target - target.mean(-1, keepdim=True)
    return 1 - F.cosine_similarity(pred, target, dim=-1).mean()
