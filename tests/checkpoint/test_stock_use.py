# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmeffmae.checkpoint.export import export_backbone

SCRIPT = Path(__file__).with_name('stock_use.py')


def test_stock_packages_give_the_encoders_features(make_checkpoint, tmp_path):
    pytest.importorskip('mmdet')
    pytest.importorskip('mmseg')
    path, model = make_checkpoint()
    result = export_backbone(path)
    for name, text in result.snippets().items():
        (tmp_path / f'{name}.py').write_text(text)
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(
        256, (3, 32, 32), generator=generator, dtype=torch.uint8)
    torch.save(image, tmp_path / 'image.pt')
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]

    model.backbone.final_norm = False  # as in the snippets
    model.backbone.eval()
    inputs = model.data_preprocessor(
        dict(inputs=image[None], data_samples=None))['inputs']
    with torch.no_grad():
        expected = model.backbone(inputs)[-1]
    features = torch.load(tmp_path / 'features.pt', weights_only=True)
    assert set(features) == {'mmpretrain', 'mmdet', 'mmseg'}
    for value in features.values():
        assert value.shape == (1, 32, 4, 4)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
