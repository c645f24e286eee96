# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""A whole comparison in small: two arms, two seeds, on generated images."""
import dataclasses
import os
import runpy
import shutil
import sys
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import LoggerHook
from mmengine.runner import get_priority
from PIL import Image

from mmeffmae.benchmarks import grid as grid_module
from mmeffmae.benchmarks import step_time
from mmeffmae.benchmarks.claim import claim
from mmeffmae.benchmarks.grid import Grid, TimeIsUp
from mmeffmae.benchmarks.shards import Shards, read_json
from mmeffmae.benchmarks.study import RATES, Study
from mmeffmae.benchmarks.target import TargetError
from mmeffmae.benchmarks.training import PeakMemory
from mmeffmae.evaluation.record import write_json
from mmeffmae.models import MaskedAutoencoder

ROOT = Path(__file__).parents[2]
CONFIG = """
default_scope = 'mmpretrain'
default_hooks = dict(
    randomness=dict(type='mmeffmae.KeyedRandomnessHook'),
    checkpoint=dict(type='mmeffmae.SafeCheckpointHook'),
    reconstruction=dict(type='mmeffmae.ReconstructionHook'))
model = dict(
    type='mmeffmae.MaskedAutoencoder',
    backbone=dict(
        type='mmeffmae.MaskedViT',
        arch=dict(embed_dims=16, num_layers=1, num_heads=2,
                  feedforward_channels=16),
        img_size=16, patch_size=4),
    neck=dict(type='mmeffmae.MaskedDecoder', decoder_embed_dim=16,
              decoder_depth=1, decoder_num_heads=2),
    head=dict(type='mmeffmae.PixelHead'),
    masking=dict(type='mmeffmae.RandomMasking', mask_ratio=0.75))
data_preprocessor = dict(
    type='mmpretrain.SelfSupDataPreprocessor',
    mean=[120.0, 110.0, 100.0], std=[60.0, 60.0, 60.0], to_rgb=True)
_photographs = dict(
    type='mmeffmae.LabelledImages', data_root='{root}', data_prefix='train',
    held_out=6, serialize_data=False)
_load = [dict(type='mmeffmae.LoadImage'), dict(type='mmpretrain.PackInputs')]
train_dataloader = dict(
    batch_size=2, num_workers=0,
    sampler=dict(type='mmeffmae.KeyedSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        **_photographs, split='train',
        pipeline=[dict(type='mmeffmae.SeedSample')] + _load))
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
auto_scale_lr = dict(base_batch_size=4)
custom_hooks = [
    dict(type='mmeffmae.KNNMonitorHook',
         bank=dict(**_photographs, split='train', test_mode=True,
                   pipeline=_load),
         query=dict(**_photographs, split='held_out', test_mode=True,
                    pipeline=_load))]
probe_query = dict(
    type='mmeffmae.LabelledImages', data_root='{root}', data_prefix='val',
    serialize_data=False, test_mode=True, pipeline=_load)
"""
ARMS = """
baseline = 'mae'
arms = dict(
    mae=dict(config='tiny.py'),
    parts=dict(config='tiny.py', options={
        'model.masking': dict(_delete_=True, type='mmeffmae.ParallelMasking',
                              num_parts=4)}))
budget = dict(kind='images', amount=40)
seeds = (0, 1)
tune_seed = 100
probes = ('linear',)
final_probes = ('linear',)
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Dark and bright pictures, the config and the arms file."""
    root = tmp_path_factory.mktemp('study')
    generator = np.random.default_rng(0)
    for split, count in (('train', 12), ('val', 4)):
        for name, low in (('dark', 0), ('light', 60)):
            part = root / split / name
            part.mkdir(parents=True)
            for i in range(count):
                image = generator.integers(low, low + 190, (16, 16, 3))
                Image.fromarray(image.astype('uint8')).save(part / f'{i}.png')
    (root / 'tiny.py').write_text(CONFIG.replace('{root}', str(root)))
    (root / 'small.py').write_text(ARMS)
    return root


@pytest.fixture
def grid(folder, tmp_path):
    """A grid whose budgets are set: twenty steps an arm."""
    study = Study.from_file(folder / 'small.py')
    shards = Shards(tmp_path / 'shards')
    arms = {
        arm: dict(images=2, views=2 * views, saved_bytes=1,
                  setting=study.setting(arm),
                  step_seconds=dict(median=seconds, q1=seconds, q3=seconds))
        for arm, views, seconds in (('mae', 1, 1.0), ('parts', 4, 3.0))
    }
    write_json(dict(kind='timing', arms=arms, device='cpu',
                     machine=dict(cpu='a test'), packages=dict(torch='torch 2')),
                shards.timing)
    result = Grid(study, shards, tmp_path / 'work')
    result._set_budgets(arms)
    return result


@pytest.fixture
def calls(monkeypatch):
    """Replace training and probing: a list of the branches that were run."""
    done = []

    def train_branch(run, fraction):
        run.folder.mkdir(parents=True, exist_ok=True)
        done.append((run.arm, run.seed, run.rate, fraction))
        return Path('none.pth'), dict(
            steps=5, cpu_seconds=1.0, energy=dict(gpu_joules='not measured'))

    def probe(config, seed, checkpoint, probes, split='monitor'):
        if checkpoint is None:
            return dict(linear=40.0 + seed)
        arm, seed, rate, fraction = done[-1]
        best = 10.0 - abs(rate - 2) + (10 if arm == 'mae' else 0)
        return dict(linear=40.0 + seed + best * fraction)

    monkeypatch.setattr(grid_module.Run, 'train_branch', train_branch)
    monkeypatch.setattr(grid_module, 'probe_encoder', probe)
    monkeypatch.setattr(grid_module, 'provenance', lambda device: {})
    return done


def test_whole_command(folder, tmp_path, monkeypatch, capsys):
    """Everything is real; then nothing is left to do."""
    (folder / 'whole.py').write_text(f'{ARMS}rates = (2, 4)\n')
    monkeypatch.setattr(sys, 'argv', [
        'time_to_target.py', str(folder / 'whole.py'), '--rounds', '1', '--shards',
        str(tmp_path / 'shards'), '--work-dir', str(tmp_path / 'work'), '--stages',
        'time', 'tune', 'train', 'report', 'final'])
    for module in ('curves', 'grid'):
        monkeypatch.setattr(f'mmeffmae.benchmarks.{module}.FRACTIONS', (0.5, 1.0))

    def run():
        runpy.run_path(
            str(ROOT / 'tools/benchmarks/time_to_target.py'), run_name='__main__')

    run()
    shards = Shards(tmp_path / 'shards')
    for arm, views in (('mae', 2), ('parts', 8)):
        found = [read_json(path) for path in shards.branches(arm)]
        assert [of['steps'] for of in found] == 2 * [10, 20]
        assert [of['images'] for of in found] == 2 * [20, 40]
        assert found[0]['views'] == 10 * views
        # Scaled from 4 images to 2, and tuned.
        assert found[0]['rate'] in (2, 4)
        assert found[0]['lr'] == pytest.approx(0.5e-3 * found[0]['rate'])
        assert found[0]['cost']['energy'] == dict(gpu_joules='not measured')
        assert len(list((shards.root / arm / 'final').glob('*.json'))) == 2
    assert read_json(shards.target)['baseline'] == 'mae'
    # Checkpoints of finished encoders stay for the final read, no others.
    kept = sorted(path.name for path in (tmp_path / 'work/mae').rglob('*.pth'))
    assert kept == ['iter_20.pth'] * 2
    assert '| parts | 2 | ' in capsys.readouterr().out
    before = {path: os.stat(path).st_mtime_ns for path in shards.root.rglob('*.json')}
    run()
    after = {path: os.stat(path).st_mtime_ns for path in shards.root.rglob('*.json')}
    assert before == after
    # Lost with the machine: the final read trains them again, and reads the same.
    finals = {path: read_json(path)['values'] for path in shards.root.rglob('final/*')}
    shutil.rmtree(tmp_path / 'work/mae')
    for path in finals:
        path.unlink()
    run()
    assert finals == {path: read_json(path)['values'] for path in finals}
    steps = {path.parts[-3]: read_json(path)['cost']['steps'] for path in finals}
    assert steps == dict(mae=20, parts=0)


def test_order_and_resume(grid, calls):
    """A stop between any two pieces costs nothing that was finished."""
    grid.tune(['mae', 'parts'])
    assert [call[2] for call in calls] == [*RATES, *RATES]
    assert {call[1] for call in calls} == {100}
    grid.train(['mae'], [0])
    assert not grid.shards.target.is_file(), 'the baseline lacks a seed'
    with pytest.raises(TargetError, match='run the baseline'):
        grid.train(['parts'], [0])
    del calls[:]
    grid.train(['mae', 'parts'], [0, 1])
    # The best rate of the trials; the baseline first; only what is missing.
    assert calls == [(arm, seed, 2, fraction)
                     for arm, seed in (('mae', 1), ('parts', 0), ('parts', 1))
                     for fraction in (0.25, 0.5, 0.75, 1.0)]
    # 40.5 untrained, 60.5 trained.
    target = read_json(grid.shards.target)['target']
    assert target == pytest.approx(40.5 + 0.95 * 20)
    grid.shards.branch(
        'parts', grid._key(grid._run('parts', 1, 2)), 1, 0.75).unlink()
    del calls[:]
    grid.train(['mae', 'parts'], [0, 1])
    assert calls == [('parts', 1, 2, 0.75)]


def test_no_piece_begins_after_the_time(grid, calls):
    grid.stop_after = -1.0
    with pytest.raises(TimeIsUp, match='run the command again'):
        grid.tune(['mae'])
    assert calls == []


def test_a_single_rate_is_taken_untried(grid, calls):
    grid.study = dataclasses.replace(grid.study, rates=(0.5,))
    grid.tune(['mae'])
    assert calls == []
    grid.train(['mae'], [0])
    assert {call[2] for call in calls} == {0.5}


def test_training_before_tuning(grid, calls):
    with pytest.raises(FileNotFoundError, match='of mae is not tuned yet'):
        grid.train(['mae'], [0])


def test_budgets_stay(grid):
    """A repeated timing does not invalidate shards; a new arm gets its own."""
    grid._set_budgets({
        arm: dict(images=4, views=4, step_seconds=dict(median=1.0))
        for arm in ('mae', 'new')})
    assert read_json(grid.shards.budget)['steps'] == dict(mae=20, parts=20, new=20)


@pytest.mark.parametrize('kind, amount, steps', [
    ('time', 600, 400), ('images', 64_000, 1000), ('views', 64_000, 240),
    ('time', 1, 20)])
def test_budget_kinds(folder, kind, amount, steps):
    """64 images, 256 views and 1.5 s a step; always a multiple of 20."""
    study = Study.from_file(folder / 'small.py')
    study.budget.update(kind=kind, amount=amount)
    assert study.steps_for(64, 256, 1.5) == steps


def test_arms_see_the_same_images_and_masks(grid, monkeypatch):
    """Arms differ in the model alone: same samples, crops and first masks."""
    seen = {}
    original = MaskedAutoencoder.draw_plan

    def draw_plan(model, images):
        plan = original(model, images)
        seen[arm].append((images.clone(), plan.ids_keep[:, 0].clone()))
        return plan

    monkeypatch.setattr(MaskedAutoencoder, 'draw_plan', draw_plan)
    for arm in ('mae', 'parts'):
        seen[arm] = []
        grid._run(arm, 0, 1).train_branch(0.25)
    assert len(seen['mae']) == len(seen['parts']) == 5
    for one, other in zip(seen['mae'], seen['parts']):
        assert all((a == b).all() for a, b in zip(one, other))


def test_a_cooldown_may_have_options_of_its_own(folder, grid, monkeypatch, tmp_path):
    """The trunk keeps eight of sixteen patches, the last fifth of a branch four."""
    ratio = 'model.masking.mask_ratio'
    study = grid.study = dataclasses.replace(grid.study, arms=dict(
        mae=dict(config='tiny.py', options={ratio: .5}, cooldown={ratio: .75})))
    seen = []
    original = MaskedAutoencoder.draw_plan

    def draw_plan(model, images):
        plan = original(model, images)
        seen.append(plan.ids_keep.size(-1))
        return plan

    monkeypatch.setattr(MaskedAutoencoder, 'draw_plan', draw_plan)
    grid._run('mae', 0, 1).train_branch(0.5)
    assert seen == 8 * [8] + 2 * [4]
    # Probed as it ends.
    probed = []
    monkeypatch.setattr(grid_module, 'probe_encoder', lambda config, *_: probed.append(
        config.model.masking.mask_ratio) or dict(linear=1.))
    monkeypatch.setattr(grid_module, 'provenance', lambda device: {})
    grid._probe_branch(grid._run('mae', 0, 1), 0.5, tmp_path / 'branch.json')
    assert probed == [.75]
    # A name of its own, and seconds of both by their shares.
    plain = dataclasses.replace(study, arms=dict(
        mae=dict(config='tiny.py', options={ratio: .5})))
    assert study.key('mae', 1, 20) != plain.key('mae', 1, 20)
    assert study.setting('mae') != plain.setting('mae')
    monkeypatch.setattr(
        step_time, '_measure_here', lambda configs, *_: ({
            name: dict(images=2, views=2, saved_bytes=[7, 9]['.1' in name])
            for name in configs
        }, [[1., 2.], [6., 12.]]))
    monkeypatch.setattr(step_time, 'ProcessPoolExecutor', lambda *_, **__: InPlace())
    found = step_time.measure_arms(dict(mae=study.parts('mae')), tmp_path, 2, 1)['mae']
    assert found['images'] == 2 and found['saved_bytes'] == 9
    assert found['step_seconds']['min'] == pytest.approx(.8 * 1 + .2 * 6)
    assert found['step_seconds']['max'] == pytest.approx(.8 * 2 + .2 * 12)


class InPlace:
    """A pool of no processes."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


def test_branches_equal_runs_of_their_own(grid):
    """The trunk leaves no trace: branch 50 % alone, or after branch 25 %."""
    from mmeffmae.checkpoint.loading import load_checkpoint_safely
    alone, _ = grid._run('mae', 0, 1).train_branch(0.5)
    weights = load_checkpoint_safely(alone)['state_dict']
    run = grid._run('mae', 1, 1)
    other = type(run)(run.study, 'mae', 0, 1, 20, run.folder)
    assert other.train_branch(0.25)[1]['steps'] == 5
    after, cost = other.train_branch(0.5)
    assert cost['steps'] == 10 - 4, 'the trunk was at step 4'
    for name, value in load_checkpoint_safely(after)['state_dict'].items():
        assert (value == weights[name]).all(), name


def test_peak_memory_outlives_the_log(monkeypatch):
    """mmengine's log resets torch's peak."""
    peaks = [3, 9, 5]
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'reset_peak_memory_stats', lambda: None)
    monkeypatch.setattr(torch.cuda, 'max_memory_allocated', lambda: peaks.pop(0))
    hook = PeakMemory()
    hook.before_train(None)
    for _ in range(3):
        hook.after_train_iter(None)
    assert hook.bytes == 9
    assert get_priority(hook.priority) < get_priority(LoggerHook.priority)


def test_keys_name_what_decides_the_result(folder):
    study = Study.from_file(folder / 'small.py')
    assert study.key('mae', 1, 20) == study.key('mae', 1, 20)
    assert len({study.key(arm, rate, steps) for arm in ('mae', 'parts')
                for rate in (1, 2) for steps in (20, 40)}) == 8
    # Whatever the rate; the encoder is the same in both arms.
    assert study.setting('mae') != study.setting('parts')
    assert study.encoder_key('mae') == study.encoder_key('parts')
    key = study.key('mae', 1, 20)
    study.arms['mae']['options'] = {'train_dataloader.num_workers': 2}
    assert study.key('mae', 1, 20) == key


@pytest.mark.parametrize('line, words', [
    ("baseline = 'other'", "'other' is none of the arms mae, parts"),
    ("budget = dict(kind='hours', amount=1)", "'hours' is unknown"),
    ('tune_seed = 1', 'one of the seeds'),
    ("target_probe = 'knn'", "'knn' is none of the probes linear"),
    ('rates = ()', 'rates is empty'),
    ('amount = 3', 'amount is missing or unknown'),
    ("arms['mae']['option'] = {}", 'option of the arm mae is unknown'),
    ("arms['mae']['cooldown'] = {'optim_wrapper.optimizer.lr': 1}",
     'cooldown of the arm mae changes optim_wrapper, .* set it in options'),
    ("arms['mae']['cooldown'] = {'train_dataloader': dict(batch_size=4)}",
     'changes optim_wrapper'),  # the rate follows the batch
    ("arms['mae']['cooldown'] = {'model.backbone.img_size': 32}",
     'changes model.backbone'),
])
def test_wrong_arms_files(folder, tmp_path, line, words):
    shutil.copy(folder / 'tiny.py', tmp_path)
    path = tmp_path / 'wrong.py'
    path.write_text(f'{ARMS}\n{line}\n')
    with pytest.raises(ValueError, match=words):
        Study.from_file(path)


def test_a_claim_has_one_holder(tmp_path):
    with claim(tmp_path / 'work', wait=False) as first:
        with claim(tmp_path / 'work', wait=False) as second:
            assert first and not second
        with claim(tmp_path / 'other', wait=False) as third:
            assert third
    with claim(tmp_path / 'work', wait=False) as again:
        assert again


def test_claimed_work_is_left_to_its_holder(grid, calls):
    """The others are done first; then the claim is waited for."""
    held = claim(grid.work_dir / 'claims' / 'mae_rate0.5', wait=False)
    held.__enter__()
    original = grid._probe_branch

    def probe_branch(run, fraction, path):
        original(run, fraction, path)
        if run.rate == RATES[-1]:
            held.__exit__(None, None, None)

    grid._probe_branch = probe_branch
    grid.tune(['mae'])
    assert [call[2] for call in calls] == [1, 2, 4, 0.5]
