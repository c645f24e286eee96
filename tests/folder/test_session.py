# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""From a folder to a backbone, and what is said before anything runs."""
import errno
import json
import os
import re
import runpy
import shlex
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope

from mmeffmae.benchmarks.inits import labelled_images
from mmeffmae.checkpoint import load_checkpoint_safely, load_with_report
from mmeffmae.checkpoint.layouts import from_own_names
from mmeffmae.engine.lr_scaling import scale_lr
from mmeffmae.folder import machine as machine_module
from mmeffmae.folder import measure as measure_module
from mmeffmae.folder import plan as plan_module
from mmeffmae.folder.header import Header
from mmeffmae.folder.machine import Machine
from mmeffmae.folder.measure import Speed
from mmeffmae.folder.plan import make_plan
from mmeffmae.folder.recipe import (
    FROM_NOTHING,
    METHODS,
    PlanError,
    _pipeline,
    config_folder,
)
from mmeffmae.folder.report import _next
from mmeffmae.folder.request import Request
from mmeffmae.folder.session import Session
from mmeffmae.folder.survey import survey_folder
from mmeffmae.models import MaskedViT

TOOL = runpy.run_path(
    str(Path(__file__).parents[2] / 'tools/pretrain_folder.py'))
ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
#: Seconds of training, not minutes.
TINY = dict(
    img_size=32, patch_size=8, batch_size=10, workers=0, options={
        'model.backbone.arch': dict(ARCH, _delete_=True),
        'model.neck.decoder_embed_dim': 32,
        'model.neck.decoder_depth': 1, 'model.neck.decoder_num_heads': 2})


def no_space(*_):
    raise OSError(errno.ENOSPC, 'No space left on device')


def session_record(work_dir):
    return json.loads((work_dir / 'plan.json').read_text())


def test_a_folder_becomes_a_backbone_and_a_report(
        photographs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (photographs / 'broken.jpg').write_bytes(b'')
    # A separator of lines to Python's splitlines, but not of a list of files.
    odd = 'grüße\u2028 📷.jpg'
    (photographs / '07.jpg').rename(photographs / odd)
    work_dir = tmp_path / 'run'
    request = Request(epochs=2, minutes=30, **TINY)
    session = Session(photographs, Path('run'), request)
    session.run()
    out = capsys.readouterr().out
    assert 'skipped: broken.jpg: empty file' in out
    assert 'epochs         2: as you asked' in out
    assert 'plan' in session._read()['seconds']
    page = (work_dir / 'report.html').read_text()
    for part in ('Reconstructions', 'Nearest neighbours', 'broken.jpg',
                 'images/s', '--scratch'):
        assert part in page, part
    content = load_checkpoint_safely(work_dir / 'backbone.pth')
    assert content['meta']['img_size'] == 32
    assert (work_dir / 'backbone_timm.pth').is_file()

    # The saved config is whole, and its rate is not scaled again.
    config = Config.fromfile(work_dir / 'config.py')
    dataset = DATASETS.build(config.train_dataloader.dataset)
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    assert len(paths) == 40 and str(photographs / odd) in paths
    assert 'unreadable_images.txt' not in {p.name for p in work_dir.glob('*/*')}
    lines = [json.loads(line) for path in work_dir.glob('*/vis_data/scalars.json')
             for line in path.read_text().splitlines()]
    rates = [line['lr'] for line in lines if 'lr' in line]
    assert max(rates) == pytest.approx(config.optim_wrapper.optimizer.lr, rel=.2)

    record = (work_dir / 'plan.json').read_text()
    Session(photographs, work_dir, request).run(dry_run=True)
    assert (work_dir / 'plan.json').read_text() == record

    # The same again, from another place and moved there: no new plan, training goes
    # on from the last checkpoint.
    monkeypatch.chdir(photographs)
    work_dir = work_dir.rename(tmp_path / 'moved')
    (work_dir / 'backbone_timm.pth').unlink()
    (work_dir / 'epoch_2.pth').rename(tmp_path / 'first.pth')
    (work_dir / 'backbone.pth').unlink()
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_1.pth'))
    if not (work_dir / 'epoch_1.pth').is_file():
        (work_dir / 'last_checkpoint').unlink()
    Session(photographs, work_dir, request).run()
    assert 'going on with the plan' in capsys.readouterr().out
    first, second = (load_checkpoint_safely(path)['state_dict'] for path in (
        tmp_path / 'first.pth', work_dir / 'epoch_2.pth'))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert (work_dir / 'backbone_timm.pth').is_file()
    before = session_record(work_dir)
    (work_dir / 'backbone.pth').unlink()
    with monkeypatch.context() as full:
        full.setattr(os, 'fsync', no_space)
        with pytest.raises(OSError, match='No space'):
            Session(photographs, work_dir, request).run()
    assert session_record(work_dir) == before
    with pytest.raises(PlanError, match='epochs was 2 and is 3'):
        Session(photographs, work_dir, replace(request, epochs=3)).run()


def test_five_bands_of_sixteen_bits_from_rgb_weights(tmp_path, smooth, capsys):
    """Through training, export and loading; the patch embedding is widened."""
    folder = tmp_path / 'bands'
    folder.mkdir()
    for i in range(32):
        np.save(folder / f'{i:02}.npy', smooth(bands=5).astype('u2') * 200)
    rgb = MaskedViT(ARCH, img_size=32, patch_size=8)
    rgb.init_weights()
    torch.save(rgb.state_dict(), tmp_path / 'rgb.pth')
    request = Request(epochs=1, encoder='vit-tiny', method='mae',
                      init=str(tmp_path / 'rgb.pth'), **TINY)
    Session(folder, tmp_path / 'run', request).run()
    log = capsys.readouterr().out
    assert 'licence unknown' in log and '5 bands of uint16' in log
    config = Config.fromfile(tmp_path / 'run/config.py')
    assert len(config.data_preprocessor.mean) == 5
    assert config.data_preprocessor.mean[0] > 255
    assert config.custom_hooks == [dict(type='mmeffmae.DecoderWarmupHook')]
    content = load_checkpoint_safely(tmp_path / 'run/backbone.pth')
    assert content['meta']['channel_order'] == 'file'
    assert 'rgb.pth' in content['meta']['initial_weights']
    encoder = MaskedViT(ARCH, img_size=32, patch_size=8, in_channels=5)
    report = load_with_report(
        encoder, content['state_dict'], prefix='backbone.')
    assert report.complete and not report.resized
    page = (tmp_path / 'run/report.html').read_text()
    assert f'--public {tmp_path}/rgb.pth' in page and 'licence unknown' in page


@pytest.mark.parametrize('channels', [1, 5])
def test_other_bands_give_what_grey_gives_in_rgb(channels):
    rgb = MaskedViT(ARCH, img_size=32, patch_size=8).eval()
    rgb.init_weights()
    other = MaskedViT(ARCH, img_size=32, patch_size=8, in_channels=channels).eval()
    report = load_with_report(other, rgb.state_dict())
    assert report.resized == ('patch_embed.projection.weight', )
    grey = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            other(grey.expand(-1, channels, -1, -1))[0],
            rgb(grey.expand(-1, 3, -1, -1))[0], atol=1e-5, rtol=1e-4)


GPU = Machine('cuda', 'a GPU', 16 * 2**30, 8, 2**40, True)


@pytest.fixture
def planned(photographs, tmp_path, monkeypatch):
    """A function that plans for a machine of 100 images a second.

    A step takes ``bytes_an_image`` for each image and half a GiB a layer width.
    """
    survey = survey_folder(photographs)
    images = tmp_path / 'images.txt'
    images.write_text('\n'.join(survey.names))
    steps = []
    clock = SimpleNamespace(now=0.)
    monkeypatch.setattr(
        plan_module, 'time', SimpleNamespace(monotonic=lambda: clock.now))

    def plan(num_images=5000, machine=GPU, elapsed=0, image_bytes=2**25,
             rate=100, load_seconds=1e-3, measuring=0, **asked):
        def measure(config, batch, machine):
            steps.append((config.model.backbone.arch, batch))
            clock.now += measuring
            width = 'tsblh'.index(config.model.backbone.arch[0])
            memory = width * 2**29 + batch * image_bytes
            size = config.model.backbone.img_size
            return Speed(batch, batch / rate * (size / 224)**2, memory, 10**7,
                         load_seconds)

        monkeypatch.setattr(plan_module, 'measure', measure)
        return make_plan(
            Request(**asked), survey, images, num_images, machine, elapsed)

    plan.steps, plan.survey = steps, survey
    return plan


def test_the_plan_fills_the_time(planned):
    plan = planned(minutes=600, img_size=224, patch_size=16)
    # 100 images/s of 5,000, a tenth of the time and 45 s left aside.
    assert plan.epochs == int((36000 - 45) / (50 / .9))
    assert plan.recipe.encoder == 'vit-small' and plan.recipe.precision == 'bf16'
    assert plan.recipe.batch == 256 and plan.recipe.accumulate == 1
    assert all(choice.reason for choice in plan.choices)
    hooks = plan.config.default_hooks
    assert hooks.checkpoint.interval == 12  # ten minutes
    rise, fall = plan.config.param_scheduler
    assert rise.end == fall.begin == plan.epochs / 10 and fall.end == plan.epochs
    # The rate is of this run, on however many GPUs.
    assert scale_lr(plan.config, world_size=4) is None


@pytest.mark.parametrize('method, widths', [
    ('mae', (128, 256, 512, 512)), ('pcae', (128, 256, 512, 512)),
    ('mae-fast', (128, 256, 256, 256))])
def test_small_encoders_have_narrow_decoders(planned, method, widths):
    """Heads of 32 channels; ViT-S as in the method's own config."""
    for encoder, width in zip(('tiny', 'small', 'base', 'large'), widths):
        neck = planned(encoder=f'vit-{encoder}', method=method).config.model.neck
        assert (neck.decoder_embed_dim, neck.decoder_num_heads) == (width, width // 32)
    own = Config.fromfile(config_folder() / METHODS[method]).model
    assert own.backbone.arch == 's'
    assert own.neck.decoder_embed_dim == widths[1]


@pytest.mark.parametrize('method', METHODS)
def test_other_bands_are_read_as_such_by_every_method(method):
    own = Config.fromfile(config_folder() / METHODS[method])
    steps = _pipeline(own.train_dataloader.dataset.pipeline, 96,
                      SimpleNamespace(photographs=False, channels=5))
    assert [step['type'].split('.')[-1] for step in steps[:3]] == [
        'SeedSample', 'LoadBands', 'RandomResizedCrop']
    assert (steps[1]['bands'], steps[2]['scale']) == (5, 96)
    assert not [s for s in steps[2:] if s['type'].split('.')[-1].startswith('Load')]


def test_measuring_takes_of_the_time(planned):
    plan = planned(minutes=30, img_size=224, patch_size=16, measuring=600)
    assert plan.epochs == int((1800 - 600 - 45) / (50 / .9))


def test_the_rate_falls_from_that_of_short_runs_to_maes(planned):
    """For 64 images 0.001 and 0.0000375; 256 are a step, 20 steps an epoch."""
    rates = [planned(epochs=epochs, img_size=224, patch_size=16)
             .config.optim_wrapper.optimizer.lr for epochs in (10, 100, 316, 1000)]
    assert rates[:2] == pytest.approx([2e-3, 2e-3])
    assert rates[2] == pytest.approx((2e-3 * 1.5e-4)**.5, rel=.01)
    assert rates[3] == pytest.approx(1.5e-4)


def test_little_time_costs_resolution(planned):
    plan = planned(minutes=20, patch_size=8)
    assert plan.recipe.img_size == 64  # the largest that the images have is 64
    survey_sides = planned(minutes=20, patch_size=8, img_size=128)
    assert survey_sides.recipe.img_size == 128


@pytest.mark.parametrize('shared, warned', [(64 * 2**20, 1), (2**34, 0), (None, 0)])
def test_too_little_shared_memory_is_said(planned, shared, warned):
    plan = planned(machine=replace(GPU, shared=shared), patch_size=16, img_size=224,
                   rate=1000, load_seconds=0.05)
    # Eight processes, two batches each of 256 crops.
    assert sum('through 588 MiB' in text for text in plan.warnings) == warned


def test_fewer_pixels_only_where_they_save_time(planned):
    planned.survey.headers = [Header(4000, 3000, 3)] * 40
    # Eight cores load 160 images/s, however small the crops are.
    loading = dict(rate=1000, load_seconds=0.05)
    assert planned(minutes=30, **loading).recipe.img_size == 224  # 50 passes
    assert planned(minutes=10, **loading).recipe.img_size == 224  # 16 at any size
    assert planned(minutes=30, rate=50).recipe.img_size == 160  # 16, 31 at 160 px


def test_small_images_first_are_planned_with_their_own_time(planned):
    """A quarter of the time for four fifths of the steps, if nothing waits."""
    asked = dict(minutes=300, img_size=224, patch_size=16, progressive=True)
    plan = planned(**asked)
    hook, = plan.config.custom_hooks
    assert hook.type == 'mmeffmae.ProgressiveResolutionHook'
    assert [dict(phase) for phase in hook.phases] == [dict(until=.8, size=112)]
    assert plan.epochs == pytest.approx((18000 - 45) / (50 * .4 / .9), abs=1)
    at_first, = [choice for choice in plan.choices if choice.name == 'at first']
    assert at_first.value == 'images of 112 px'
    assert planned(**asked, load_seconds=.01).config.train_dataloader.num_workers == 5
    # 160 images/s are loaded: small ones wait, large ones at 100 a second do not.
    plan = planned(**asked, load_seconds=.05)
    assert plan.epochs == pytest.approx(
        (18000 - 45) / (5000 * (.8 / 160 + .2 / 100) / .9), abs=1)


@pytest.fixture
def large(planned, monkeypatch):
    """Of 12 megapixels; eight cores load 160 images/s, and the steps take 1,000."""
    planned.survey.headers = [Header(4000, 3000, 3)] * 40
    monkeypatch.setattr(plan_module, 'crop_seconds', lambda *_: 1e-4)
    roomy = replace(GPU, host=2**40)
    return lambda machine=roomy, **asked: planned(**dict(dict(
        minutes=30, img_size=224, patch_size=16, machine=machine, rate=1000,
        load_seconds=.05, image_bytes=2**23), **asked))


def test_photographs_stay_on_the_device_where_files_hold_it_up(large):
    plan = large()
    # 1.6 x 224 = 358.4 px are the shorter side of 477.9, rounded up to sixteens.
    assert plan.recipe.kept == 480
    loader = plan.config.train_dataloader
    assert loader.num_workers == 0 and loader.collate_fn.type == 'mmeffmae.whole_batch'
    dataset = loader.dataset
    assert (dataset.type, dataset.scale, dataset.store) == (
        'mmeffmae.DeviceImages', 224, 480)
    assert dataset.crop_ratio_range == (.2, 1) and dataset.flip_prob == .5
    assert dataset.dataset.type == 'mmeffmae.UnlabelledImages'
    choice, = [choice for choice in plan.choices if choice.name == 'images']
    assert '160 images/s, the steps take 1000; 3.22 GiB' in choice.reason
    assert 'crops of less than 29 % of a photograph are enlarged' in choice.reason
    # 31 s to read; steps and crops take turns: 5,000 images in 5.5 s.
    assert plan.epochs == pytest.approx((1800 - 45 - 31) / (5.5 / .9), abs=1)
    assert plan.seconds == pytest.approx(31 + 5.5 * plan.epochs, abs=1)
    assert not plan.warnings and not [c for c in plan.choices if c.name == 'loading']


def test_slow_crops_are_worse_than_files(large, monkeypatch):
    monkeypatch.setattr(plan_module, 'crop_seconds', lambda *_: 1e-2)  # 91 images/s
    assert large().recipe.kept is None
    assert large(images='device').recipe.kept == 480


def test_fewer_pixels_are_kept_where_memory_is_short(large):
    """2.5 GiB are the steps', 1.73 the images of 352 px."""
    assert large(machine=replace(GPU, host=2**40, memory=5 * 2**30)).recipe.kept == 352
    # The crops of a batch, 15 bytes a pixel, may take more than a step.
    crops = dict(image_bytes=1, machine=replace(GPU, host=2**40, memory=4 * 2**30))
    assert large(**crops).recipe.kept == 352
    assert large(**crops, num_images=200).recipe.kept == 480


@pytest.mark.parametrize('asked', [
    dict(machine=GPU),  # no memory to read them in
    dict(machine=replace(GPU, host=2**40, memory=4 * 2**30)),
    dict(images='files'), dict(workers=8), dict(load_seconds=.005),
    dict(options={'train_dataloader.num_workers': 2}),
    # 62 of 75 s to read: one pass over the files takes 69.
    dict(num_images=10_000, minutes=2)])
def test_files_are_read_where_that_is_no_worse(large, asked):
    plan = large(**asked)
    assert plan.recipe.kept is None
    assert plan.config.train_dataloader.dataset.type == 'mmeffmae.UnlabelledImages'
    assert [choice for choice in plan.choices if choice.name == 'loading']


def test_full_resolution_where_the_device_keeps_up(large):
    """Loading would cost passes, and with them pixels; 1,000 images/s do not."""
    assert large(img_size=None).recipe.img_size == 224
    assert large(img_size=None, minutes=4.5, rate=500).recipe.img_size == 160
    # Small images first are 2.5 times as fast.
    asked = dict(img_size=None, minutes=4.5, rate=200)
    assert large(**asked).recipe.img_size == 128
    assert large(**asked, progressive=True).recipe.img_size == 160


@pytest.mark.parametrize('asked, message', [
    (dict(machine=replace(GPU, host=2**40, memory=4 * 2**30)),
     '5,000 photographs of up to 352 px take 1.73 GiB beside the 2.50.*leave --images'),
    (dict(machine=GPU), '1.73 GiB of the computer.s own memory .* 0.00 GiB are'),
    (dict(workers=2), '--images device with --workers 2'),
    (dict(options={'train_dataloader.dataset.flip_prob': 0}),
     '--images device with --cfg-options train_dataloader.dataset.flip_prob')])
def test_images_that_cannot_be_kept_are_refused(large, asked, message):
    with pytest.raises(PlanError, match=message):
        large(images='device', **asked)


def test_bands_are_not_kept(large, planned):
    planned.survey.photographs, planned.survey.channels = False, 5
    planned.survey.mean = planned.survey.std = [1.] * 5
    assert large().recipe.kept is None
    with pytest.raises(PlanError, match=r'uint8 values in 5 band\(s\)'):
        large(images='device')


def test_options_that_drop_planned_hooks_are_refused(planned):
    with pytest.raises(PlanError, match='leaves out mmeffmae.ProgressiveResolution'):
        planned(progressive=True, img_size=224, patch_size=16, options=dict(
            custom_hooks=[dict(type='mmeffmae.CompileHook')]))


def test_a_container_s_limit_counts_and_its_cache_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_module, '_CGROUP', tmp_path)
    free = machine_module._available_memory()
    for name, text in (('memory.max', 'max'), ('memory.current', '900000'),
                       ('memory.stat', 'inactive_file 300000\nactive_file 100000\n')):
        (tmp_path / name).write_text(text)
    assert machine_module._available_memory() == pytest.approx(free, rel=.2)
    (tmp_path / 'memory.max').write_text('1000000\n')
    assert machine_module._available_memory() == 500000


def test_a_folder_on_the_device_becomes_a_backbone(photographs, tmp_path, capsys):
    work_dir = tmp_path / 'run'
    Session(photographs, work_dir, Request(
        epochs=2, images='device', progressive=True, **TINY)).run()
    out = capsys.readouterr().out
    assert 'on the device, up to 80 px: as you asked' in out
    assert 'images of 16 px from iteration 1' in out
    assert 'images of full size from iteration 8' in out
    page = (work_dir / 'report.html').read_text()
    assert '--progressive --images device --minutes M' in page
    config = Config.fromfile(work_dir / 'config.py')
    assert len(DATASETS.build(config.train_dataloader.dataset)) == 40
    for part in ('Reconstructions', 'Nearest neighbours', str(photographs)):
        assert part in page, part
    # What compare_inits.py judges by: no crops of chance, as training has them.
    shutil.copytree(photographs, tmp_path / 'labelled/one')
    judged = DATASETS.build(labelled_images(config, tmp_path / 'labelled'))
    first, second = (judged[0]['inputs'] for _ in range(2))
    assert torch.equal(first, second) and first.shape == (3, 32, 32)
    assert (work_dir / 'backbone.pth').is_file()
    with pytest.raises(PlanError, match='half of them is no number.*--img-size 32'):
        Session(photographs, tmp_path / 'odd', Request(
            progressive=True, **dict(TINY, img_size=40))).run(dry_run=True)


def test_a_folder_trains_decorrelated(photographs, tmp_path, capsys):
    work_dir = tmp_path / 'run'
    asked = dict(TINY, method='dbp-mae', epochs=2, progressive=True)
    Session(photographs, work_dir, Request(**asked)).run()
    assert 'eta 0.001: of 8 updates' in capsys.readouterr().out
    matrices = load_checkpoint_safely(work_dir / 'epoch_2.pth')['decorrelation']
    assert matrices['num_steps'] == 8 and len(matrices['layers']) == 6
    weights = load_checkpoint_safely(work_dir / 'backbone.pth')['state_dict']
    assert not [key for key in weights if 'decorrelation' in key]
    # The plan counts with it on the disk.
    config = Config.fromfile(work_dir / 'config.py')
    assert measure_module.measure(
        config, 2, machine_module.this_machine(work_dir)).decorrelation == sum(
            4 * matrix.numel() for layer in matrices['layers'].values()
            for matrix in layer.values())


@pytest.mark.parametrize('epochs, eta', [(20, 1e-3), (60, .54 / 1200), (600, 1e-4)])
def test_decorrelation_gets_as_far_in_runs_of_any_length(planned, epochs, eta):
    """256 of 5,000 images are a step, 20 steps an epoch."""
    hook, = planned(method='dbp-mae', epochs=epochs, img_size=224, patch_size=16
                    ).config.custom_hooks
    assert hook.type == 'mmeffmae.DecorrelationHook'
    assert hook.eta == pytest.approx(eta)


def test_little_memory_costs_steps_not_the_batch(planned):
    small = replace(GPU, memory=3 * 2**30)
    plan = planned(machine=small, img_size=224, patch_size=16, minutes=60)
    assert (plan.recipe.batch, plan.recipe.accumulate) == (64, 4)
    assert plan.config.optim_wrapper.accumulative_counts == 4
    assert planned.steps == [('s', 256), ('s', 128), ('s', 64)]


@pytest.mark.parametrize('asked, message', [
    (dict(encoder='vit-large', machine=replace(GPU, memory=2**30)),
     'not fit into the 1.00 GiB.*even one image.*would fit: --encoder vit-small'),
    (dict(machine=replace(GPU, disk=2**20)), 'disk .* 0.00 GiB free.*114 MiB each'),
    (dict(minutes=1, img_size=224), 'too short for 1 epoch: 5,000 images at 100.0.*'
     'What would fit: --minutes 2.*smaller --encoder .vit-tiny.*at most 1,350 images'),
    (dict(minutes=10, epochs=100, img_size=224), 'too short for 100 epochs'),
    (dict(num_images=3), 'holds 3 images that can be used.*at least 32'),
    (dict(method='um-mae', encoder='vit-small'), 'it takes pvt-small'),
    (dict(init='gone.pth'), '--init: checkpoint gone.pth is not a file'),
])
def test_what_cannot_work_is_said_with_what_would_fit(planned, asked, message):
    with pytest.raises(PlanError, match=message):
        planned(**dict(dict(patch_size=16), **asked))


def test_initial_weights_say_their_encoder(planned, tmp_path):
    arch = dict(embed_dims=192, num_heads=3, feedforward_channels=768)
    for depth, name in ((12, 'vit-tiny'), (6, None)):
        encoder = MaskedViT(dict(arch, num_layers=depth), img_size=28, patch_size=14)
        torch.save(from_own_names(encoder.state_dict(), 'timm'), tmp_path / 'a.pth')
        if name is None:
            with pytest.raises(PlanError, match='a.pth holds none of vit-tiny.*arch'):
                planned(init=str(tmp_path / 'a.pth'))
            continue
        plan = planned(init=str(tmp_path / 'a.pth'))
        assert (plan.recipe.encoder, plan.recipe.patch_size) == (name, 14)
        assert plan.recipe.img_size % 28 == 0
        assert plan.config.model.backbone.init_cfg.checkpoint.endswith('a.pth')
        for method in FROM_NOTHING:
            with pytest.raises(PlanError, match=f'{method}: .*use another method'):
                planned(init=str(tmp_path / 'a.pth'), method=method)


@pytest.mark.parametrize('method, encoder, stock', [
    ('mae', 'vit-small', True), ('um-mae', 'swin-tiny', True),
    ('clmae', 'vit-small', False), ('dbp-mae', 'vit-small', True)])
def test_next_steps_fit_the_run(planned, tmp_path, method, encoder, stock):
    planned.survey.headers = [Header(500, 400, 3)] * 40
    config = planned(method=method, patch_size=16).config
    work_dir = tmp_path / 'of mine'
    run = SimpleNamespace(
        config=config, work_dir=work_dir, checkpoint=work_dir / 'epoch_1.pth',
        backbone=work_dir / 'backbone.pth' if stock else None)
    record = dict(method=method, encoder=encoder, folder=str(tmp_path / 'my photos'),
                  asked=dict(init=None))
    page = unescape('\n'.join(_next(run, record))).replace('\\\n', '')
    commands = [shlex.split(text) for text in re.findall(
        '<pre>(python .*?)</pre>', page, re.DOTALL)]
    longer, = (words for words in commands if 'pretrain_folder' in words[1])
    again = TOOL['parse_args'](longer[2:longer.index('--minutes')])
    assert (again.method, again.encoder) == (method, encoder)
    assert again.folder == tmp_path / 'my photos'
    assert again.init == (None if method in FROM_NOTHING else str(run.backbone))
    if method == 'um-mae':
        assert "type='mmeffmae.UMSwin'" in page and 'mmeffmae installed' in page
    # Necks and heads take what the backbone gives.
    dense = [words[2:] for words in commands
             if re.match('configs/(mask_rcnn|upernet)/', words[2])]
    assert len(dense) == 2 * stock
    for file, init, weights, _, *options in dense:
        assert (init, weights) == ('--init', str(run.backbone))
        cfg = Config.fromfile(Path(__file__).parents[2] / file)
        cfg.merge_from_dict(
            TOOL['parse_args'](['.', '--cfg-options', *options]).cfg_options)
        assert cfg.model.backbone.img_size == config.model.backbone.img_size
        with DefaultScope.overwrite_default_scope(cfg.default_scope), \
                torch.device('meta'):
            model = MODELS.build(dict(
                cfg.model, backbone=dict(cfg.model.backbone, init_cfg=None)))
            maps = model.extract_feat(torch.empty(1, 3, 256, 256))
        if 'decode_head' in cfg.model:
            assert [m.size(1) for m in maps] == list(model.decode_head.in_channels)


def test_tool_says_what_is_wrong_and_writes_nothing(photographs, tmp_path):
    for photograph in list(photographs.iterdir())[3:]:
        photograph.unlink()
    work_dir = tmp_path / 'run'
    command = [str(photographs), '--work-dir', str(work_dir), '--dry-run']
    with pytest.raises(SystemExit, match='error: .*holds 3 images'):
        TOOL['main'](command)
    shutil.rmtree(photographs)
    with pytest.raises(SystemExit, match='does not exist'):
        TOOL['main'](command)
    assert not work_dir.exists()


def test_tool_takes_no_zero_for_the_default(capsys):
    for option in ('--epochs', '--minutes', '--batch-size'):
        with pytest.raises(SystemExit):
            TOOL['parse_args'](['photographs', option, '0'])
        assert f'{option} 0' in capsys.readouterr().err


@pytest.mark.parametrize('error', [
    FloatingPointError('the loss is not finite'),
    torch.cuda.OutOfMemoryError('CUDA out of memory')])
def test_tool_ends_in_a_line_where_training_ends(error, monkeypatch):

    def run(self, dry_run):
        raise error

    monkeypatch.setattr(Session, 'run', run)
    with pytest.raises(SystemExit, match=f'error: {error}'):
        TOOL['main'](['photographs'])


def test_memory_is_measured_with_the_moments(monkeypatch):
    """An optimizer makes them in its first step, after that step's peak."""

    class Measured(Exception):
        pass

    def build_arm(*args, warmup, **kwargs):
        assert warmup >= 2
        raise Measured

    monkeypatch.setattr(measure_module, 'build_arm', build_arm)
    with pytest.raises(Measured):
        measure_module.measure(None, 1, replace(GPU, device='cpu'))
