# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Every detector and segmentor config: one training step, then prediction."""
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import (
    DATASETS,
    HOOKS,
    MODELS,
    DefaultScope,
    init_default_scope,
)
from PIL import Image
from pycocotools import mask as coco_mask
from yapf.yapflib import yapf_api

from mmeffmae.checkpoint import load_with_report, register_safe_loader
from mmeffmae.checkpoint.export import export_backbone
from mmeffmae.datasets.mini_drawing import STUFF, THINGS
from mmeffmae.datasets.mini_scenes import MiniSceneSettings, write_mini_scenes
from mmeffmae.engine.config_check import _failing_transform

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(
    path for pattern in (
        'htcpp/*.py', 'mask_rcnn/*.py', 'upernet/*.py', 'gfl/*.py',
        '*/benchmarks/htc*.py', '*/benchmarks/upernet*.py')
    for path in (ROOT / 'configs').glob(pattern))
WIDTH, SIDE = 32, 64
ARCH = dict(embed_dims=WIDTH, num_layers=6, num_heads=2,
            feedforward_channels=WIDTH)


def _pretraining(encoder):
    """A config that pre-trains an encoder."""
    pyramid = 'UM' in encoder['type']
    neck = dict(decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2)
    return Config(dict(
        default_scope='mmpretrain',
        model=dict(
            type='mmeffmae.MaskedAutoencoder',
            backbone=encoder,
            neck=dict(neck, type='mmeffmae.PixelShuffleDecoder' if pyramid else
                      'mmeffmae.MaskedDecoder'),
            head=dict(type='mmeffmae.PixelHead'),
            masking=dict(type='mmeffmae.UniformMasking', hidden_ratio=0.25)
            if pyramid else dict(type='mmeffmae.RandomMasking'),
            data_preprocessor=dict(
                type='mmpretrain.SelfSupDataPreprocessor', to_rgb=True,
                mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))))


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory):
    """A function: the file for a backbone, pre-trained at half of its size.

    An export; of CLMAE's encoder, which has no stock form, the checkpoint.
    """
    files = {}

    def function(backbone):
        own = ('arch', 'patch_size', 'stem', 'ffn', 'share_attn')
        encoder = {key: backbone[key] for key in own if key in backbone}
        pyramid = 'UM' in backbone.type
        encoder.update(type=backbone.type if pyramid else 'mmeffmae.MaskedViT',
                       img_size=SIDE // 2)
        key = repr(encoder)
        if key not in files:
            cfg = _pretraining(encoder)
            model = MODELS.build(cfg.model)
            model.init_weights()
            file = tmp_path_factory.mktemp('backbone') / 'pretrained.pth'
            torch.save(dict(state_dict=model.state_dict(),
                            meta=dict(cfg=cfg.pretty_text)), file)
            files[key] = file if 'stem' in encoder else export_backbone(file).path
        return files[key]

    return function


@pytest.fixture(scope='module')
def mini(tmp_path_factory):
    """Mini scenes of 64 px, two a split."""
    root = tmp_path_factory.mktemp('data') / 'mini'
    write_mini_scenes(str(root), MiniSceneSettings(
        train_images=1, val_images=1, scene_size=SIDE, train_scenes=2,
        val_scenes=2))
    return root


@pytest.fixture(scope='module')
def camvid(tmp_path_factory):
    """The first two images of each split of CamVid, with instances."""
    real = Path(os.environ.get('MMEFFMAE_DATA_ROOT', 'unset')) / 'camvid'
    if not (real / 'images').is_dir():
        pytest.skip('MMEFFMAE_DATA_ROOT holds no camvid')
    root = tmp_path_factory.mktemp('data') / 'camvid'
    for split in ('train', 'val', 'test'):
        for kind in ('images', 'annotations'):
            (root / kind / split).mkdir(parents=True)
            for file in sorted((real / kind / split).iterdir())[:2]:
                shutil.copy(file, root / kind / split)
    subprocess.run(
        [sys.executable, ROOT / 'tools/data/camvid_instances.py', root],
        check=True)
    return root


def _divided(value, by):
    """Sizes in pixels, however nested."""
    if isinstance(value, (list, tuple)):
        return type(value)(_divided(item, by) for item in value)
    return value // by if isinstance(value, int) else value


def _shrink_pipeline(pipeline, by):
    """Smaller images; without InstaBoost where its package is missing."""
    for transform in list(pipeline):
        if transform['type'] == 'InstaBoost' and not find_spec('instaboostfast'):
            pipeline.remove(transform)
        for key in ('scale', 'crop_size', 'size'):
            if key in transform and transform['type'] != 'InstaBoost':
                transform[key] = _divided(transform[key], by)
        if transform['type'] == 'TestTimeAug':
            for choice in transform['transforms']:
                del choice[2:]  # two scales are enough
                _shrink_pipeline(choice, by)


def _on_mini(dataset, root, mini):
    """Point a dataset of a COCO or ADE20K recipe at the mini scenes."""
    while 'dataset' in dataset:
        dataset = dataset.dataset
    dataset.update(data_root=str(root), metainfo=mini.metainfo, indices=2)
    if dataset.type == 'ADE20KDataset':
        dataset.update(type='BaseSegDataset', reduce_zero_label=True)
        if 'ann_file' in dataset:  # a list of a share of the images
            images = (root / dataset.data_prefix.img_path).iterdir()
            (root / dataset.ann_file).write_text(
                '\n'.join(path.stem for path in images))
        return
    for name in (('train2017', 'train'), ('val2017', 'val')):
        for key in ('ann_file', 'data_prefix'):
            text = repr(dataset[key]).replace(*name)
            dataset[key] = eval(text)  # names only


def _shrink_recipe(cfg, root, shrinkers):
    """A recipe of a paper's size on mini scenes of 64 px, without float16."""
    segments = 'decode_head' in cfg.model
    name = 'mini_semantic' if segments else 'mini_instance_semantic'
    mini = Config.fromfile(ROOT / f'configs/_base_/datasets/{name}.py')
    root = root / Path(mini.data_root).name
    by = 8 if segments else 16
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        dataset = loader.dataset
        _on_mini(dataset, root, mini)
        while dataset is not None:
            _shrink_pipeline(dataset.pipeline, by)
            dataset = dataset.get('dataset')
    _shrink_pipeline(cfg.get('tta_pipeline', []), by)
    if 'tta_model' in cfg and 'object_sizes' in cfg.tta_model:
        cfg.tta_model.object_sizes = [('s', 'm', 'l'), ('s', )]
        cfg.tta_model.tta_cfg.max_per_img = 10
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        if 'ann_file' in evaluator:
            evaluator.ann_file = str(root / 'annotations/instances_val.json')
    shrinkers[0](cfg.model, {80: 8, 183: 12, 150: 12})
    if 'bbox_head' in cfg.model:
        cfg.model.test_cfg.score_thr = 0.  # untrained, it is sure of nothing
    if 'decode_head' in cfg.model:
        if 'ViT' in cfg.model.backbone.type:
            cfg.model.backbone.out_indices = (1, 2, 3, 5)
        cfg.model.data_preprocessor.size = (SIDE, SIDE)
        cfg.model.decode_head.channels = WIDTH
        cfg.model.auxiliary_head.channels = WIDTH
        if cfg.model.test_cfg.mode == 'slide':
            cfg.model.test_cfg.update(crop_size=(64, 64), stride=(42, 42))
    if cfg.optim_wrapper.type == 'mmeffmae.BFloat16OptimWrapper':
        cfg.optim_wrapper.enabled = True  # on a CPU, too
    else:  # float16 needs a GPU
        for option in ('dtype', 'loss_scale'):
            del cfg.optim_wrapper[option]
        cfg.optim_wrapper.update(type='OptimWrapper', accumulative_counts=1)


@pytest.fixture
def shrunk(request, tmp_path, pretrained, shrinkers, monkeypatch):
    """A function that reads a config and makes it tiny, on tiny data."""
    # Formatting the configs in logs takes a third of the time.
    monkeypatch.setattr(yapf_api, 'FormatCode', lambda text, **_: (text, True))

    def function(path):
        cfg = Config.fromfile(path)
        if cfg.optim_wrapper.get('constructor'):
            _shrink_recipe(cfg, request.getfixturevalue('mini'), shrinkers)
        name = 'camvid' if 'camvid' in path.stem else 'mini'
        root = request.getfixturevalue(name)
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            loader.update(num_workers=0, persistent_workers=False)
            dataset = loader.dataset
            while 'dataset' in dataset:
                dataset = dataset.dataset
            dataset.serialize_data = False  # which collects all garbage
            if cfg.optim_wrapper.get('constructor'):
                continue
            old, dataset.data_root = dataset.data_root, str(root / Path(
                dataset.data_root).name if name == 'mini' else root)
            dataset.indices = 2
        if 'ann_file' in cfg.val_evaluator and not cfg.optim_wrapper.get('constructor'):
            cfg.val_evaluator.ann_file = cfg.val_evaluator.ann_file.replace(
                old.rstrip('/'), dataset.data_root)
        cfg.train_dataloader.batch_size = 2
        if cfg.train_cfg.get('type') == 'IterBasedTrainLoop':
            cfg.train_cfg.update(max_iters=1, val_interval=1)
        else:
            cfg.train_cfg.max_epochs = 1
        cfg.param_scheduler = []
        shrinkers[1](cfg.model, ARCH, SIDE)
        cfg.model.backbone.init_cfg.checkpoint = str(pretrained(cfg.model.backbone))
        cfg.work_dir = str(tmp_path)
        return cfg

    return function


def readme_configs(folder, replaced, tmp_path):
    """Configs of the section on own labels, on the mini scenes."""
    text = (ROOT / f'configs/{folder}/README.md').read_text()
    parts = text.partition('## Your own labels')[2].split('```python\n')[1:]
    configs = []
    for name, part in zip(('mine', 'boxes'), parts):
        part = part.partition('```')[0]
        for old, new in (("'./mine", f"'{tmp_path}/mine"),
                         ("'./", f"'{ROOT}/configs/{folder}/"), *replaced):
            part = part.replace(old, new)
        (tmp_path / f'{name}.py').write_text(part)
        configs.append(Config.fromfile(tmp_path / f'{name}.py'))
    init_default_scope(configs[0].default_scope)
    return configs


def on_meta(cfg):
    with torch.device('meta'):
        return MODELS.build(dict(cfg.model, backbone=dict(
            cfg.model.backbone, init_cfg=None)))


def test_the_readme_s_detectors_read_labels_of_ones_own(mini, tmp_path):
    labels = tmp_path / 'labelled'
    shutil.copytree(mini / 'coco', labels)
    mine, boxes = readme_configs('mask_rcnn', (
        ("'labelled/'", f"'{labels}/'"),
        ("'train.json'", "'annotations/instances_train.json'"),
        ("'val.json'", "'annotations/instances_val.json'"),
        ("('apple', 'pear')", repr(tuple(THINGS[:2])))), tmp_path)
    for loader in (mine.train_dataloader, mine.val_dataloader, mine.test_dataloader):
        dataset = DATASETS.build(dict(loader.dataset, filter_cfg=None))
        assert dataset.metainfo['classes'] == tuple(THINGS[:2])
        assert len(dataset) == 2 and len(dataset.cat_ids) == 2
    assert Path(mine.test_evaluator.ann_file).is_file()
    model = on_meta(mine)
    maps = model.neck.levels[2][0].conv.weight.shape[1]
    assert maps == model.backbone.embed_dims == 384
    assert model.roi_head.mask_head.num_classes == 2

    for file in labels.glob('annotations/instances_*.json'):
        content = json.loads(file.read_text())
        for annotation in content['annotations']:
            del annotation['segmentation']
        file.write_text(json.dumps(content))
    assert not on_meta(boxes).roi_head.with_mask
    assert boxes.test_evaluator.metric == 'bbox'
    for loader in (boxes.train_dataloader, boxes.test_dataloader):
        settings = dict(loader.dataset, filter_cfg=None, indices=1)
        assert 'masks' not in DATASETS.build(settings)[0]['data_samples'].gt_instances
    with pytest.raises(KeyError, match='mask') as error:
        DATASETS.build(dict(mine.test_dataloader.dataset, indices=1))[0]
    assert 'no segmentation; for boxes alone' in _failing_transform(error.value)


def test_the_page_s_classifier_learns_labels_of_ones_own(image_folder, tmp_path):
    text = (ROOT / 'docs/your_own_images.md').read_text()
    part = text.partition('## A classifier of your own labels')[2]
    part = part.split('```python\n')[1].partition('```')[0]
    for split in ('train', 'val'):
        part = part.replace(f"'labelled/{split}'", repr(str(image_folder)))
    (tmp_path / 'classifier.py').write_text(part)
    cfg = Config.fromfile(tmp_path / 'classifier.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        train, test = (DATASETS.build(loader.dataset) for loader in (
            cfg.train_dataloader, cfg.test_dataloader))
        cfg.model.backbone.init_cfg = None
        model = MODELS.build(dict(
            cfg.model, data_preprocessor=dict(
                cfg.data_preprocessor, type='ClsDataPreprocessor')))
        assert train.CLASSES == test.CLASSES and len(train.CLASSES) == 2
        batch = model.data_preprocessor(pseudo_collate([train[0], train[1]]), True)
        assert model(**batch, mode='loss')['loss'].isfinite()
        sample, = model.test_step(pseudo_collate([test[0]]))
    assert sample.pred_score.shape == (2, )


def test_the_readme_s_segmentor_reads_labels_of_ones_own(mini, tmp_path):
    mine, = readme_configs('upernet', (
        ("data_root='labelled/'", f"data_root='{mini}/ade'"),
        ("/train'", "/training'"), ("/val'", "/validation'")), tmp_path)
    for loader in (mine.train_dataloader, mine.test_dataloader):
        dataset = DATASETS.build(loader.dataset)
        assert len(dataset) == 2
        assert not dataset.reduce_zero_label
        assert dataset[0]['data_samples'].gt_sem_seg.data.dtype == torch.int64
    model = on_meta(mine)
    assert list(model.decode_head.in_channels) == [384] * 4
    assert model.decode_head.num_classes == model.auxiliary_head.num_classes == 3
    assert mine.param_scheduler[1].end == mine.train_cfg.max_iters


@pytest.mark.parametrize('method', ['mae', 'emae', 'pcae', 'dbp_mae'])
def test_a_detector_s_encoder_loads_every_method_whole(method, tmp_path):
    cfg = Config.fromfile(ROOT / f'configs/{method}/{method}_quick.py')
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=.02)
    for hook in cfg.get('custom_hooks', []):
        if hook.type == 'mmeffmae.DecorrelationHook':
            hook = HOOKS.build(hook)
            hook.attach(model, OptimWrapper(torch.optim.SGD(model.parameters(), .1)))
            for layer in hook.decorrelator.layers.values():
                layer.decorrelation.add_(.01)
    file = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=model.state_dict(),
                    meta=dict(cfg=cfg.pretty_text)), file)
    backbone = cfg.model.backbone
    encoder = MODELS.build(dict(
        type='mmeffmae.WindowedViT', window_size=2, final_norm=False,
        arch=backbone.arch, img_size=backbone.img_size,
        patch_size=backbone.patch_size))
    exported = torch.load(export_backbone(file).path, weights_only=True)['state_dict']
    report = load_with_report(encoder, exported, prefix='backbone.')
    assert report.complete and report.coverage == 100. and not report.resized
    ours = model.state_dict()
    assert all(torch.equal(value, ours[f'backbone.{key}'])
               for key, value in encoder.state_dict().items())


class KeepStart(Hook):
    """Keeps the backbone's weights as training begins."""

    def before_train(self, runner):
        self.state = {key: value.clone() for key, value in
                      runner.model.backbone.state_dict().items()}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_trains_every_parameter_from_pretraining_and_predicts(
        path, shrunk, build_runner):
    register_safe_loader()
    cfg = shrunk(path)
    runner = build_runner(cfg)
    reached = set()
    for name, parameter in runner.model.named_parameters():
        parameter.register_post_accumulate_grad_hook(
            lambda p, name=name: reached.add(name)
            if p.grad.isfinite().all() else None)
    start = KeepStart()
    runner.register_hook(start, priority='LOWEST')
    runner.train()

    assert runner.iter == 1
    assert reached == {name for name, p in runner.model.named_parameters()}
    file = cfg.model.backbone.init_cfg.checkpoint
    loaded = torch.load(file, weights_only=True)['state_dict']
    for key, value in start.state.items():
        if key.startswith(('norm0.', 'norm1.', 'norm2.')):  # of other outputs
            assert f'backbone.{key}' not in loaded
        elif key != 'pos_embed':  # resized
            assert torch.equal(value, loaded[f'backbone.{key}']), key
    values = runner.message_hub.log_scalars
    names = (['val/mIoU'] if hasattr(runner.model, 'decode_head') else
             ['val/coco/bbox_mAP', 'val/coco/segm_mAP'][:1 + hasattr(
                 runner.model, 'roi_head')])
    assert all(0 <= values[name].current() <= 100 for name in names)
    picture = np.asarray(Image.open(
        next(Path(runner.work_dir, 'vis').glob('predictions_iter_*1.png'))))
    height, width = (360, 480) if 'camvid' in path.stem else (SIDE, SIDE)
    assert picture.shape == (2 * height + 2, 2 * width, 3)


@pytest.mark.parametrize('name, metric', [
    ('htcpp/htcpp_vit-base-p16_16xb1-amp-1x_coco', 'coco/segm_mAP'),
    # Without tta_model and tta_pipeline: the image and its mirror image.
    ('mask_rcnn/mask-rcnn_vit-base-p16_8xb2-amp-1x_coco', 'coco/segm_mAP'),
    ('gfl/gfl_um-swin-tiny_8xb2-amp-lsj-25e_coco', 'coco/bbox_mAP'),
    ('upernet/upernet_quick', 'mIoU'),
    ('upernet/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512', 'mIoU')])
def test_scales_and_flips_through_the_tool(
        name, metric, shrunk, tmp_path, monkeypatch):
    cfg = shrunk(ROOT / f'configs/{name}.py')
    cfg.model.backbone.init_cfg = None
    cfg.work_dir = str(tmp_path / 'run')
    # mmengine names runs by the second; of a name, the first one's scope stays.
    cfg.experiment_name = tmp_path.name
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    cfg.dump(tmp_path / 'config.py')
    run_tool('test', tmp_path, monkeypatch, '--tta', '--out',
             str(tmp_path / 'metrics.json'))
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert -1 <= metrics[metric] <= 100
    picture = np.asarray(Image.open(
        next(Path(tmp_path, 'run/vis').glob('predictions_iter_*.png'))))
    assert picture.shape == (2 * SIDE + 2, 2 * SIDE, 3)

    images = cfg.val_dataloader.dataset
    prefix = images.data_prefix
    folder = Path(images.data_root, prefix.get('img') or prefix.img_path)
    run_tool('predict', tmp_path, monkeypatch, str(folder), '--score-thr', '0',
             '--out', str(tmp_path / 'out'))
    found = json.loads((tmp_path / 'out/predictions.json').read_text())
    assert len(found) >= 2
    for name, prediction in found.items():
        drawn = tmp_path / 'out' / f'{Path(name).name}.png'
        assert Image.open(drawn).size == (SIDE, SIDE)
        if metric == 'mIoU':
            assert sum(prediction['shares'].values()) == pytest.approx(1)
            assert set(prediction['shares']) <= set(THINGS + STUFF)
            classes = Image.open(drawn.with_suffix('.classes.png'))
            assert classes.size == (SIDE, SIDE)
        else:
            assert set(prediction['classes']) <= set(THINGS)
            assert len(prediction['boxes']) == len(prediction['scores']) > 0
            assert ('masks' in prediction) == ('segm' in metric)
            assert all(coco_mask.decode(mask).shape == (SIDE, SIDE)
                       for mask in prediction.get('masks', ()))


def run_tool(name, folder, monkeypatch, *arguments):
    """Run tools/NAME.py on config.py and weights.pth of a folder."""
    spec = spec_from_file_location(f'{name}_tool', ROOT / f'tools/{name}.py')
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr('sys.argv', [
        f'{name}.py', str(folder / 'config.py'), str(folder / 'weights.pth'),
        *arguments])
    tool.main()


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_is_short_and_carries_its_licence(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 40
    assert text.startswith('# Copyright (c) mmeffmae developers.')


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_starts_untrained_on_request(path):
    cfg = Config.fromfile(path)
    cfg.merge_from_dict({'model.backbone.init_cfg': None})
    with torch.device('meta'):
        backbone = MODELS.build(cfg.model.backbone)
    assert 'Pretrained' not in repr(backbone.init_cfg)


@pytest.mark.parametrize(
    'path', [path for path in CONFIGS
             if path.stem.endswith(('_coco', '_ade20k-512x512'))],
    ids=lambda path: path.stem)
def test_full_size_parts_fit_each_other(path):
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope(cfg.default_scope), \
            torch.device('meta'):
        model = MODELS.build(cfg.model)
        maps = model.extract_feat(torch.empty(2, 3, 256, 192))
    first = 8 if 'bbox_head' in cfg.model else 4
    strides = [first << level for level in range(len(maps))]
    assert [m.shape[2:] for m in maps] == [
        (-(-256 // s), -(-192 // s)) for s in strides]
    if 'decode_head' not in cfg.model:
        head = cfg.model.get('rpn_head') or cfg.model.bbox_head
        assert strides == head.anchor_generator.strides
        assert {m.shape[1] for m in maps} == {256}
    else:
        assert [m.shape[1] for m in maps] == list(model.decode_head.in_channels)
    batch = (int(path.stem.split('_')[2].split('xb')[0]) *
             cfg.train_dataloader.batch_size *
             cfg.optim_wrapper.get('accumulative_counts', 1))
    assert batch == cfg.auto_scale_lr.base_batch_size


@pytest.mark.parametrize('name, epochs, steps', [
    ('1x', 12, [8, 11]), ('3x', 36, [27, 33]), ('6x', 72, [63, 69])])
def test_schedules_are_the_published_ones(name, epochs, steps):
    cfg = Config.fromfile(
        ROOT / f'configs/htcpp/htcpp_vit-base-p16_16xb1-amp-{name}_coco.py')
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.param_scheduler[1].milestones == steps
    assert (cfg.optim_wrapper.type, cfg.optim_wrapper.dtype) == (
        'AmpOptimWrapper', 'float16')
    assert cfg.model.test_cfg.rcnn.nms.type == 'soft_nms'


def test_instaboost_moves_objects_before_boxes_are_read(mini, monkeypatch):
    def moved(annotations, image, config, background):
        for annotation in annotations:
            annotation['bbox'][0] += 1
        return annotations, image

    # The package is optional; this is all that mmdet calls of it.
    module = ModuleType('instaboostfast')
    module.InstaBoostConfig, module.get_new_data = lambda *args: args, moved
    monkeypatch.setitem(sys.modules, 'instaboostfast', module)
    base = Config.fromfile(
        ROOT / 'configs/_base_/datasets/coco_instance_semantic_instaboost.py')
    pipeline = base.train_pipeline
    pipeline[2].aug_ratio, pipeline[5].prob = 1., 0.
    pipeline[4].scale = [(SIDE, SIDE)] * 2
    data = Config.fromfile(ROOT / 'configs/_base_/datasets/mini_instance_semantic.py')
    settings = dict(
        data.train_dataloader.dataset, data_root=str(mini / 'coco'), indices=1)
    init_default_scope('mmdet')
    boxes = []
    for steps in ([*pipeline[:2], *pipeline[3:]], pipeline):
        sample = DATASETS.build(dict(settings, pipeline=steps))[0]['data_samples']
        assert 'sem_seg' in sample.gt_sem_seg
        boxes.append(sample.gt_instances.bboxes.tensor)
    assert torch.equal(boxes[0] + torch.tensor([1., 0., 1., 0.]), boxes[1])


def test_mini_classes_are_those_of_the_scenes():
    base = ROOT / 'configs/_base_/datasets'
    things = Config.fromfile(base / 'mini_instance_semantic.py').metainfo
    everything = Config.fromfile(base / 'mini_semantic.py').metainfo
    assert tuple(things.classes) == THINGS
    assert tuple(everything.classes) == THINGS + STUFF
    assert len(things.palette) == 8
    assert len(everything.palette) == 12
