# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""UM-MAE's Swin in plain torch, as https://arxiv.org/abs/2205.10063 tells it.

Embed the whole image, keep the tokens of one patch of each 2 × 2 cell, put a
token over some, and go on with the map of half the side; every token carries
its coordinates. ``w`` is a state dict; blocks are (depth, heads) of each stage.
"""
import torch
from mae import block, normalise, patchify
from torch.nn import functional as F


def linear(x, w, name):
    return F.linear(x, w[f'{name}.weight'], w[f'{name}.bias'])


def norm(x, w, name, eps):
    return F.layer_norm(x, x.shape[-1:], w[f'{name}.weight'], w[f'{name}.bias'], eps)


def compact(tokens, keep, u):
    """(B, H, W, C) -> (B, H/2, W/2, C): of each cell the one kept patch of u × u."""
    b, h, width, c = tokens.shape
    cells = tokens.reshape(b, h // (2 * u), 2, u, width // (2 * u), 2, u, c)
    kept = keep.view(b, h // (2 * u), 2, 1, width // (2 * u), 2, 1, 1)
    return (cells * kept).sum((2, 5)).view(b, h // 2, width // 2, c)


def windows(x, s):
    """(B, H, W, C) -> (B, windows, s·s, C)."""
    x = x.unfold(1, s, s).unfold(2, s, s).flatten(1, 2)
    return x.permute(0, 1, 3, 4, 2).flatten(2, 3)


def attend(x, place, w, name, heads, s, shift):
    """Window attention with the bias of each pair of tokens, one by one."""
    b, h, width, c = x.shape
    zone = torch.zeros(1, h, width, 1)
    if shift:
        axes = [(torch.arange(n) >= n - s).long() + (torch.arange(n) >= n - shift)
                for n in (h, width)]
        zone = (3 * axes[0][:, None] + axes[1])[None, ..., None]
        x, place = (t.roll((-shift, -shift), (1, 2)) for t in (x, place))
    pos, zone = windows(place, s), windows(zone, s)[..., 0]
    delta = pos[:, :, None] - pos[:, :, :, None]
    hidden = linear(delta.sign() * (1 + delta.abs()).log(), w, f'{name}.posmlp.fc1')
    bias = linear(hidden.relu(), w, f'{name}.posmlp.fc2').permute(0, 1, 4, 2, 3)
    bias = bias - 100. * (zone[:, :, None] != zone[..., None])[:, :, None]
    q, k, v = linear(windows(x, s), w, f'{name}.qkv').unflatten(
        -1, (3, heads, -1)).permute(3, 0, 1, 4, 2, 5)
    score = q @ k.transpose(-1, -2) / q.shape[-1]**.5 + bias
    out = (score.softmax(-1) @ v).transpose(2, 3).flatten(3)
    out = linear(out, w, f'{name}.proj').view(b, h // s, width // s, s, s, c)
    out = out.transpose(2, 3).reshape(b, h, width, c)
    return out.roll((shift, shift), (1, 2)) if shift else out


def encode(images, keep, hidden, w, p, blocks, window):
    """(B, h/8, w/8, C); ``keep`` and ``hidden`` are (B, rows, cols), bool."""
    x = F.conv2d(images, w['patch_embed.projection.weight'],
                 w['patch_embed.projection.bias'], stride=p // 4).permute(0, 2, 3, 1)
    x = norm(x, w, 'patch_embed.norm', 1e-6)
    over = hidden.repeat_interleave(4, 1).repeat_interleave(4, 2)[..., None]
    x = torch.where(over, norm(w['mask_token'], w, 'patch_embed.norm', 1e-6), x)
    axes = [torch.arange(n, dtype=torch.float) for n in x.shape[1:3]]
    place = torch.stack(torch.meshgrid(*axes, indexing='ij'), -1)
    x, place = compact(x, keep, 4), compact(place.expand(len(x), -1, -1, -1), keep, 4)
    index = 0
    for stage, (depth, heads) in enumerate(blocks):
        for turn in range(depth):
            name = f'blocks.{index}'
            index += 1
            if stage and turn == 0:
                x = norm(x, w, f'{name}.downsample.norm', 1e-6).permute(0, 3, 1, 2)
                x = F.conv2d(x, w[f'{name}.downsample.reduction.weight'],
                             w[f'{name}.downsample.reduction.bias'], stride=2)
                x, place = x.permute(0, 2, 3, 1), place[:, ::2, ::2] / 2
            s = min(window, x.shape[1])
            shift = window // 2 if turn % 2 and x.shape[1] > window else 0
            x = x + attend(norm(x, w, f'{name}.norm1', 1e-5), place, w,
                           f'{name}.attn', heads, s, shift)
            y = linear(norm(x, w, f'{name}.norm2', 1e-5), w, f'{name}.ffn.layers.0.0')
            x = x + linear(F.gelu(y), w, f'{name}.ffn.layers.1')
    return norm(x, w, 'norm3', 1e-6)


def um_loss(images, keep, hidden, w, p, blocks, window, decoder):
    """Mean squared error on the dropped patches; ``decoder`` is (depth, heads)."""
    encoder = {k[9:]: v for k, v in w.items() if k.startswith('backbone.')}
    x = linear(encode(images, keep, hidden, encoder, p, blocks, window), w,
               'neck.decoder_embed')
    x = F.pixel_shuffle(x.permute(0, 3, 1, 2), 2).flatten(2).transpose(1, 2)
    number = torch.arange(keep[0].numel()).view(1, *keep[0].shape, 1)
    number = compact(number.expand(len(keep), -1, -1, -1), keep, 1).view(len(x), -1, 1)
    full = w['neck.mask_token'].repeat(len(x), keep[0].numel(), 1)
    x = full.scatter(1, number.expand_as(x), x) + w['neck.decoder_pos_embed'][:, 1:]
    for i in range(decoder[0]):
        x = block(x, w, f'neck.decoder_blocks.{i}', decoder[1])
    pred = linear(norm(x, w, 'neck.ln1', 1e-6), w, 'neck.decoder_pred')
    error = (pred - normalise(patchify(images, p)))**2
    return error.mean(-1)[~keep.flatten(1)].mean()
