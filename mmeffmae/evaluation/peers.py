# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""mmpretrain's own methods in the sizes of one of our configs."""
import torch
from mmengine.config import Config
from mmengine.registry import TRANSFORMS
from mmpretrain.models import SwinTransformer, VisionTransformer
from mmpretrain.structures import DataSample
from torch import nn


def mmpretrain_mae(config: Config, model: nn.Module) -> tuple[dict, str]:
    """Mmpretrain's ``MAE`` with the encoder, decoder and mask ratio of a model.

    Args:
        config: Of the model; not used.
        model: A ``MaskedAutoencoder`` with a ``MaskedViT``.

    Returns:
        Settings of the peer's model, and a note on its sizes.

    Raises:
        ValueError: The encoder has no counterpart there.
    """
    encoder, neck = model.backbone, model.neck
    rows, cols = getattr(encoder, 'patch_resolution', (0, 1))
    if not isinstance(encoder, VisionTransformer) or rows != cols:
        raise ValueError(
            f'{type(encoder).__name__} on {rows} x {cols} patches has no '
            'counterpart in mmpretrain\'s MAE, which is a ViT on a square grid: '
            'compare with a config instead, --versus CONFIG')
    block = neck.decoder_blocks[0]
    width = neck.decoder_embed.out_features
    plan = model.draw_plan(torch.zeros(1, 3, *encoder.img_size))
    visible = plan.ids_keep.size(-1)
    settings = dict(
        type='mmpretrain.MAE',
        backbone=dict(
            type='mmpretrain.MAEViT',
            arch=dict(encoder.arch_settings),
            img_size=encoder.img_size[0],
            patch_size=encoder.patch_size,
            # Half a patch more, since it rounds N · (1 - ratio) down.
            mask_ratio=1 - (visible + 0.5) / plan.num_patches),
        neck=dict(
            type='mmpretrain.MAEPretrainDecoder',
            num_patches=plan.num_patches,
            patch_size=encoder.patch_size,
            embed_dim=encoder.embed_dims,
            decoder_embed_dim=width,
            decoder_depth=len(neck.decoder_blocks),
            decoder_num_heads=block.attn.num_heads,
            mlp_ratio=block.ffn.feedforward_channels // width),
        head=dict(
            type='mmpretrain.MAEPretrainHead',
            norm_pix=True,
            patch_size=encoder.patch_size,
            loss=dict(type='mmpretrain.PixelReconstructionLoss', criterion='L2')))
    note = f'{visible} of {plan.num_patches} patches visible, one view'
    return settings, note


def mmpretrain_simmim(config: Config, model: nn.Module) -> tuple[dict, str]:
    """Mmpretrain's ``SimMIM`` on the Swin of a config.

    An encoder config that is no Swin has no counterpart there: the peer is
    then Swin-B at 192 px, as published.

    Args:
        config: Of the model; ``arch`` and ``img_size`` of its Swin are taken.
        model: Not used.

    Returns:
        Settings of the peer's model, and a note on its sizes.
    """
    backbone = config.model.backbone
    arch, size, reason = 'base', 192, 'the encoder of the config is no Swin: '
    if 'swin' in backbone.type.lower():
        arch, reason = backbone.get('arch', 'T'), ''
        size = backbone.get('img_size', 224)
        size = size if isinstance(size, int) else size[0]
    swin = dict(
        type='mmpretrain.SimMIMSwinTransformer',
        arch=arch,
        img_size=size,
        # 6 at 192 px as published, 7 at 224 px: the last stage is one window.
        stage_cfgs=dict(block_cfgs=dict(window_size=size // 32)))
    settings = dict(
        type='mmpretrain.SimMIM',
        backbone=swin,
        neck=dict(
            type='mmpretrain.SimMIMLinearDecoder',
            in_channels=_swin_width(arch) * 2**3,
            encoder_stride=32),
        head=dict(
            type='mmpretrain.SimMIMHead',
            patch_size=4,
            loss=dict(
                type='mmpretrain.PixelReconstructionLoss', criterion='L1', channel=3)))
    return settings, f'{reason}Swin {arch} at {size} px, 60 % masked, one view'


def _swin_width(arch: str | dict) -> int:
    if not isinstance(arch, str):
        return arch['embed_dims']
    return SwinTransformer.arch_zoo[arch.lower()]['embed_dims']


PEERS = {'mmpretrain-mae': mmpretrain_mae, 'mmpretrain-simmim': mmpretrain_simmim}


def simmim_masks(batch_size: int, img_size: int, device: torch.device) -> list:
    """Data samples with SimMIM's masks, which its data pipeline draws."""
    draw = TRANSFORMS.build(
        dict(
            type='mmpretrain.SimMIMMaskGenerator',
            input_size=img_size,
            mask_patch_size=32,
            model_patch_size=4,
            mask_ratio=0.6))
    masks = [draw.transform(dict())['mask'] for _ in range(batch_size)]
    return [
        DataSample(mask=torch.as_tensor(mask, device=device)) for mask in masks
    ]
