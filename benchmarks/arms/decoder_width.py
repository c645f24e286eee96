# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# What a step of MAE costs with small encoders: the decoder of the paper, 512 channels,
# and one of two thirds of the encoder's, as tools/pretrain_folder.py takes it:
#     throughput.py --arms benchmarks/arms/decoder_width.py --json FILE
_mae = '../../configs/mae/mae_vit-small-p16_1xb256-amp-coslr-300e_folder.py'


def _arm(arch, width):
    return dict(config=_mae, options={
        'model.backbone.arch': arch,
        'model.neck.decoder_embed_dim': width,
        'model.neck.decoder_num_heads': width // 32,
    })


peer = 'ViT-S, decoder of 512'
arms = {
    'ViT-S, decoder of 512': _arm('s', 512),
    'ViT-S, decoder of 256': _arm('s', 256),
    'ViT-Ti, decoder of 512': _arm('t', 512),
    'ViT-Ti, decoder of 128': _arm('t', 128),
}
