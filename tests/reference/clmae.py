# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""CLMAE in plain torch, as the reconstruction of mmeffmae tells it.

MAE with a stem of two convolutions, a depth-wise convolution in every
feed-forward layer, and one attention for all layers. Masked patches are zero
wherever a convolution reads. ``w`` is a state dict; ``visible`` (B, N), bool.
"""
import torch
from mae import decode, normalise, patchify
from torch.nn import functional as F


def masked(x, visible, grid):
    """Zero the masked patches of a map (B, C, H, W) of any resolution."""
    shown = visible.view(-1, 1, *grid).to(x.dtype)
    return x * F.interpolate(shown, x.shape[-2:], mode='nearest')


def stem(images, visible, grid, w, p):
    """``overlap2``: 8/4/2 to 48 channels, norm, GELU, (p/4 + 2)/(p/4)/1."""

    def conv(x, i, stride, padding):
        name = f'backbone.patch_embed.stages.{i}.conv.'
        x = masked(x, visible, grid)
        return F.conv2d(x, w[f'{name}weight'], w[f'{name}bias'], stride, padding)

    x = conv(images, 0, 4, 2).permute(0, 2, 3, 1)
    name = 'backbone.patch_embed.stages.0.ln.'
    x = F.layer_norm(x, x.shape[-1:], w[f'{name}weight'], w[f'{name}bias'], 1e-6)
    x = conv(F.gelu(x).permute(0, 3, 1, 2), 1, p // 4, 1)
    return x.flatten(2).transpose(1, 2)


def attention(x, w, heads):
    """One for all layers."""
    b, n, c = x.shape
    name = 'backbone.shared_attn.0.'
    qkv = F.linear(x, w[f'{name}qkv.weight'], w[f'{name}qkv.bias'])
    q, k, v = qkv.view(b, n, 3, heads, -1).unbind(2)
    score = torch.einsum('bqhd,bkhd->bhqk', q, k) / q.shape[-1]**.5
    x = torch.einsum('bhqk,bkhd->bqhd', score.softmax(-1), v).reshape(b, n, c)
    return F.linear(x, w[f'{name}proj.weight'], w[f'{name}proj.bias'])


def feed_forward(x, visible, grid, w, name):
    """Linear, GELU, convolution over the grid (not the class token), GELU, linear."""
    x = F.linear(x, w[f'{name}.layers.0.0.weight'], w[f'{name}.layers.0.0.bias'])
    x = F.gelu(x)
    rows = []
    for tokens, keep in zip(x, visible):
        full = tokens.new_zeros(len(keep), tokens.size(-1))
        full = full.masked_scatter(keep[:, None], tokens[1:])
        dense = F.conv2d(
            full.T.reshape(1, -1, *grid), w[f'{name}.dwconv.weight'],
            w[f'{name}.dwconv.bias'], padding=1, groups=tokens.size(-1))
        rows.append(torch.cat([tokens[:1], tokens[1:] + dense[0].flatten(1).T[keep]]))
    x = F.gelu(torch.stack(rows))
    return F.linear(x, w[f'{name}.layers.1.weight'], w[f'{name}.layers.1.bias'])


def encode(images, visible, grid, w, p, depth, heads):
    """Class token and visible patches."""

    def norm(x, name):
        return F.layer_norm(
            x, x.shape[-1:], w[f'backbone.{name}.weight'], w[f'backbone.{name}.bias'],
            1e-6)

    x = stem(images, visible, grid, w, p) + w['backbone.pos_embed'][:, 1:]
    x = torch.stack([tokens[keep] for tokens, keep in zip(x, visible)])
    cls_token = w['backbone.cls_token'] + w['backbone.pos_embed'][:, :1]
    x = torch.cat([cls_token.expand(len(x), -1, -1), x], 1)
    for i in range(depth):
        x = x + attention(norm(x, f'layers.{i}.ln1'), w, heads)
        x = x + feed_forward(
            norm(x, f'layers.{i}.ln2'), visible, grid, w, f'backbone.layers.{i}.ffn')
    return norm(x, 'ln1')


def clmae_loss(images, visible, grid, w, p, encoder, decoder):
    """Mean squared error on the masked patches, by MAE's decoder."""
    latent = encode(images, visible, grid, w, p, *encoder)
    error = (decode(latent, visible, w, *decoder) - normalise(patchify(images, p)))**2
    return error.mean(-1)[~visible].mean()
