# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest

_CHANNELS = ('in_channels', 'out_channels', 'conv_out_channels', 'feat_channels')
_FEW = ('fc_out_channels', 'nms_pre', 'max_per_img', 'num')
WIDTH = 32
#: Their stages have 8, 16, 32 and 64 channels.
PYRAMIDS = {
    'mmeffmae.UMSwin': dict(
        embed_dims=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], position_dims=4),
    'mmeffmae.UMPVT': dict(
        embed_dims=[8, 16, 32, 64], depths=[1] * 4, num_heads=[1, 1, 2, 2],
        mlp_ratios=[2] * 4, sr_ratios=[8, 4, 2, 1]),
}


def shrink_parts(value, classes):
    """256 channels become 32, with few RoIs; in place.

    ``classes`` maps numbers of classes to others.
    """
    if isinstance(value, (list, tuple)):
        for item in value:
            shrink_parts(item, classes)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if key in _CHANNELS and item == 256:
            value[key] = WIDTH
        elif key in _FEW:
            value[key] = 16
        elif key == 'num_classes':
            value[key] = classes.get(item, item)
        else:
            shrink_parts(item, classes)


def shrink_encoder(model, arch, size):
    """A tiny encoder, a ViT with patches of 8 px, and what its widths decide."""
    backbone = model.backbone
    if backbone.type in PYRAMIDS:
        backbone.update(arch=PYRAMIDS[backbone.type], img_size=size)
        widths = [8 << stage for stage in backbone.out_indices]
    else:
        backbone.update(arch=arch, img_size=size, patch_size=8)
        widths = [WIDTH] * 4
    if 'window_size' in backbone:
        backbone.window_size = 4
    necks = model.neck if isinstance(model.neck, list) else [model.neck or {}]
    if necks[0].get('type') == 'ChannelMapper':
        necks[0].update(out_channels=WIDTH)
        # A channel of one number has no statistics.
        norm = dict(type='GN', num_groups=4)
        necks[1].update(in_channels=[WIDTH] * len(widths), norm_cfg=norm)
        model.bbox_head.norm_cfg = norm
        necks = necks[:1]
    for part in necks:
        for key in ('embed_dim', 'embed_dims', 'in_channels'):
            if key in part:
                many = isinstance(part[key], list)
                part[key] = widths if many else widths[-1]
        if 'num_heads' in part:
            part.num_heads = 2
        if 'SimpleFeaturePyramid' in part.get('type', ''):  # strides 4 to 32 again
            part.scales = (2, 1, 0.5, 0.25)
    if 'decode_head' in model:
        model.decode_head.in_channels = widths
    if 'auxiliary_head' in model:
        model.auxiliary_head.in_channels = widths[2]


@pytest.fixture(scope='session')
def shrinkers():
    return shrink_parts, shrink_encoder
