# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""No way into the tools lets a checkpoint run code."""
import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from mmeffmae.checkpoint.loading import TRUST_SWITCH, CheckpointError

ROOT = Path(__file__).parents[2]


class _Touch:
    """Pickles as a command that leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f'touch {self.mark}',)


@pytest.fixture(autouse=True)
def stock_loaders(monkeypatch):
    """mmengine's own loaders, as in a new process: the tool must replace them."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', {
        'https://': mmengine_checkpoint.load_from_http,
        'http://': mmengine_checkpoint.load_from_http,
        '': mmengine_checkpoint.load_from_local})


@pytest.fixture
def files(tiny_cfg, image_folder, tmp_path):
    """A config, a checkpoint of its model with a command in it, and a mark."""
    cfg = tiny_cfg(dict(train_cfg=dict(max_epochs=1)))
    labelled = dict(
        type='mmeffmae.LabelledImages', data_root=str(image_folder),
        pipeline=[dict(type='mmeffmae.LoadImage'), dict(type='mmpretrain.PackInputs')])
    cfg.custom_hooks = [
        dict(type='mmeffmae.KNNMonitorHook', bank=labelled, query=labelled, k=1)]
    cfg.merge_from_dict(dict(
        test_dataloader=dict(batch_size=2, num_workers=0, dataset=labelled,
                             sampler=dict(type='DefaultSampler', shuffle=False)),
        test_cfg=dict(), test_evaluator=dict(type='mmpretrain.Accuracy')))
    path = tmp_path / 'tiny.py'
    cfg.dump(path)
    (tmp_path / 'run').mkdir()
    file, mark = tmp_path / 'run/epoch_1.pth', tmp_path / 'ran'
    torch.save(dict(state_dict={}, optimizer={},
                    meta=dict(iter=6, epoch=1, x=_Touch(mark))), file)
    (tmp_path / 'run/last_checkpoint').write_text(str(file))
    return dict(config=str(path), file=str(file), mark=mark,
                image=str(next(image_folder.rglob('*.png'))), out=str(tmp_path / 'o'))


def run_tool(name: str, arguments: list[str], monkeypatch) -> str:
    """Run a tool as ``__main__``; what it says where it stops."""
    monkeypatch.setattr(sys, 'argv', [name, *arguments])
    spec = importlib.util.spec_from_file_location('__main__', ROOT / 'tools' / name)
    tool = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(tool)
    except SystemExit as left:
        return str(left.code)
    except CheckpointError as error:
        return str(error)
    return 'went through'


PRETRAINED = ('model.backbone.init_cfg.type=Pretrained',
              'model.backbone.init_cfg.prefix=backbone.',
              'model.backbone.init_cfg.checkpoint={file}')
ENTRIES = {
    'resume': ('train.py', '{config} --resume {file}'),
    'resume-last': ('train.py', '{config} --resume'),
    'init': ('train.py', '{config} --init {file}'),
    'load_from': ('train.py', '{config} --cfg-options load_from={file}'),
    'pretrained': ('train.py', '{config} --cfg-options ' + ' '.join(PRETRAINED)),
    'test': ('test.py', '{config} {file}'),
    'export': ('export_backbone.py', '{file} --config {config}'),
    'probe': ('benchmarks/probe.py', '{config} {file}'),
    'probe-pretrained': (
        'benchmarks/probe.py', '{config} none --cfg-options ' + ' '.join(PRETRAINED)),
    'consistency': ('benchmarks/consistency.py', '{config} {file}'),
    'predict': ('predict.py', '{config} {file} {image} --out {out}'),
    'embed': ('predict.py', '{config} {file} {image} --task embed --out {out}'),
    'visualize': ('analysis/visualize_reconstruction.py',
                  '{config} {file} {image} --out {out}'),
    'import': ('import_um_mae.py', '{config} {file}'),
}


@pytest.mark.parametrize('entry', ENTRIES)
def test_no_entry_runs_code_of_a_file(entry, files, monkeypatch, capfd):
    tool, arguments = ENTRIES[entry]
    said = run_tool(tool, arguments.format(**files).split(), monkeypatch)
    said += ''.join(capfd.readouterr())
    assert not files['mark'].exists()
    assert files['file'] in said and 'system' in said, said
    assert f'{TRUST_SWITCH}=1' in said


def test_the_switch_says_what_it_risks(files, monkeypatch, capfd):
    monkeypatch.setenv(TRUST_SWITCH, '1')
    tool, arguments = ENTRIES['init']
    run_tool(tool, arguments.format(**files).split(), monkeypatch)
    said = ''.join(capfd.readouterr())
    assert files['mark'].exists()
    assert 'can do whatever you can' in said and files['file'] in said


def test_resume_does_not_execute_the_config_in_a_file(
        tiny_cfg, build_runner, tmp_path):
    """mmengine executes ``meta['config']`` on resume, where there is one."""
    cfg = tiny_cfg(dict(train_cfg=dict(max_epochs=1)))
    build_runner(cfg).train()
    file, mark = tmp_path / 'run/epoch_1.pth', tmp_path / 'ran'
    content = torch.load(file, weights_only=False)
    content['meta']['config'] = f'import os; os.system("touch {mark}")'
    torch.save(content, file)
    cfg.resume, cfg.train_cfg.max_epochs = True, 2
    build_runner(cfg).train()
    assert not mark.exists()


def test_addresses_are_read_safely_or_refused(tmp_path, monkeypatch):
    from mmeffmae.checkpoint import loading
    monkeypatch.setitem(CheckpointLoader._schemes, 'pavi://', print)
    monkeypatch.setitem(CheckpointLoader._schemes, 'torchvision://', print)
    monkeypatch.setitem(CheckpointLoader._schemes, r'(\S+\:)?s3://', print)
    loading.register_safe_loader()
    with pytest.raises(CheckpointError, match='pavi://x: .*give its path'):
        CheckpointLoader.load_checkpoint('pavi://x')
    with pytest.raises(CheckpointError, match="no model 'none'"):
        CheckpointLoader.load_checkpoint('torchvision://none')
    torch.save(dict(x=_Touch(tmp_path / 'ran')), tmp_path / 'evil.pth')
    monkeypatch.setattr(
        loading, 'read_bytes', lambda name: (tmp_path / 'evil.pth').read_bytes())
    with pytest.raises(loading.UnsafeCheckpointError, match='s3://x'):
        CheckpointLoader.load_checkpoint('s3://x')
    assert not (tmp_path / 'ran').exists()
