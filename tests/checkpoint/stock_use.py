# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Use an exported backbone in a process that cannot import mmeffmae.

Started by ``test_stock_use.py`` with a folder of config texts and one image;
leaves the last feature map of each package's backbone there.
"""
import sys
from pathlib import Path


class _Blocker:

    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'mmeffmae':
            raise ImportError(f'{name} is blocked')


sys.meta_path.insert(0, _Blocker())

import torch  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.registry import MODELS, DefaultScope  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402


def build(name, folder):
    """The model of a snippet as it stands, with its weights."""
    cfg = Config.fromfile(folder / f'{name}.py')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        __import__(f'{name}.models')
        model = MODELS.build(cfg.model)
        model.init_weights()
    model.eval()
    return model


@torch.no_grad()
def main(folder):
    image = torch.load(folder / 'image.pt')
    size = tuple(image.shape[1:])
    shape = dict(img_shape=size, ori_shape=size, pad_shape=size)
    samples = dict(
        mmpretrain=None,
        mmdet=[DetDataSample(metainfo=dict(shape, scale_factor=(1, 1)))],
        mmseg=[SegDataSample(metainfo=shape)])
    features = {}
    for name, sample in samples.items():
        model = build(name, folder)
        batch = image[None] if name == 'mmpretrain' else [image]
        data = dict(inputs=batch)
        if sample is not None:
            data['data_samples'] = sample
        data = model.data_preprocessor(data, False)
        outputs = model(**data, mode='tensor')
        assert outputs is not None
        backbone = model.backbone
        if name == 'mmpretrain':
            backbone.out_type = 'featmap'
        features[name] = backbone(data['inputs'])[-1]
    assert not any(name.startswith('mmeffmae') for name in sys.modules)
    torch.save(features, folder / 'features.pt')


if __name__ == '__main__':
    main(Path(sys.argv[1]))
