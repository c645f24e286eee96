# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""MAE in plain torch, as https://arxiv.org/abs/2111.06377 tells it.

Mask most patches, encode the visible ones, let a small transformer fill in
the rest, and compare with the (normalised) pixels. ``w`` is a state dict
with mmpretrain's parameter names; tokens keep row-major patch order.
"""
import torch
from torch.nn import functional as F


def patchify(images, p):
    """(B, C, H, W) -> (B, N, p·p·C), channels last within a patch."""
    b, c, h, w = images.shape
    x = images.reshape(b, c, h // p, p, w // p, p)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, p * p * c)


def normalise(patches):
    """Each patch to mean 0 and (unbiased) variance 1."""
    mean, var = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
    return (patches - mean) / (var + 1e-6)**.5


def block(x, w, name, heads):
    """A pre-norm transformer block on (B, L, C)."""
    b, n, c = x.shape

    def linear(y, part):
        return F.linear(y, w[f'{name}.{part}.weight'], w[f'{name}.{part}.bias'])

    def norm(y, part):
        return F.layer_norm(
            y, (c,), w[f'{name}.{part}.weight'], w[f'{name}.{part}.bias'], 1e-6)

    q, k, v = linear(norm(x, 'ln1'), 'attn.qkv').view(b, n, 3, heads, -1).unbind(2)
    score = torch.einsum('bqhd,bkhd->bhqk', q, k) / q.shape[-1]**.5
    mixed = torch.einsum('bhqk,bkhd->bqhd', score.softmax(-1), v).reshape(b, n, c)
    x = x + linear(mixed, 'attn.proj')
    hidden = F.gelu(linear(norm(x, 'ln2'), 'ffn.layers.0.0'))
    return x + linear(hidden, 'ffn.layers.1')


def encode(images, visible, w, p, depth, heads):
    """Class token and visible patches; ``visible`` is (B, N), bool."""
    kernel = w['backbone.patch_embed.projection.weight']
    bias = w['backbone.patch_embed.projection.bias']
    x = F.conv2d(images, kernel, bias, stride=p).flatten(2).transpose(1, 2)
    x = x + w['backbone.pos_embed'][:, 1:]
    x = torch.stack([tokens[keep] for tokens, keep in zip(x, visible)])
    cls_token = w['backbone.cls_token'] + w['backbone.pos_embed'][:, :1]
    x = torch.cat([cls_token.expand(len(x), -1, -1), x], 1)
    for i in range(depth):
        x = block(x, w, f'backbone.layers.{i}', heads)
    return F.layer_norm(
        x, x.shape[-1:], w['backbone.ln1.weight'], w['backbone.ln1.bias'], 1e-6)


def decode(latent, visible, w, depth, heads):
    """(B, N, p·p·C): a prediction for every patch."""
    x = F.linear(latent, w['neck.decoder_embed.weight'], w['neck.decoder_embed.bias'])
    full = []
    for tokens, keep in zip(x, visible):
        row = w['neck.mask_token'][0].repeat(len(keep), 1)
        row = row.masked_scatter(keep[:, None], tokens[1:])
        full.append(torch.cat([tokens[:1], row]))
    x = torch.stack(full) + w['neck.decoder_pos_embed']
    for i in range(depth):
        x = block(x, w, f'neck.decoder_blocks.{i}', heads)
    x = F.layer_norm(x, x.shape[-1:], w['neck.ln1.weight'], w['neck.ln1.bias'], 1e-6)
    x = F.linear(x, w['neck.decoder_pred.weight'], w['neck.decoder_pred.bias'])
    return x[:, 1:]


def predict(images, visible, w, p, encoder, decoder):
    """``encoder`` and ``decoder`` are (depth, heads)."""
    return decode(encode(images, visible, w, p, *encoder), visible, w, *decoder)


def mae_loss(images, visible, w, p, encoder, decoder):
    """Mean squared error on the masked patches."""
    pred = predict(images, visible, w, p, encoder, decoder)
    error = (pred - normalise(patchify(images, p)))**2
    return error.mean(-1)[~visible].mean()
