# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""One self-contained page about a pre-training run, from its files alone.

Detectors and segmentors that were trained from it can be shown as well.
"""
import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from os import PathLike
from pathlib import Path
from statistics import median
from typing import Any, Optional, Union

import numpy as np
from mmengine.config import Config
from PIL import Image

from mmeffmae.checkpoint.loading import load_checkpoint_safely
from mmeffmae.datasets.device_images import of_files
from mmeffmae.evaluation.downstream import DownstreamRun

from .curves import Curve, plot_curves, read_scalars

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; margin: 2em auto;
       max-width: 60em; padding: 0 1em; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2em; }
table { border-collapse: collapse; }
td, th { border-bottom: 1px solid #ddd; padding: .3em .8em; text-align: left; }
td.figure { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } img.pixels { image-rendering: pixelated;
       width: 100%; border: 1px solid #ddd; }
.curves { display: flex; flex-wrap: wrap; gap: 1em; }
.curves img { flex: 1 1 26em; min-width: 0; }
pre { background: #f4f4f4; padding: .8em; overflow-x: auto; }
p.note { color: #555; font-size: .9em; }
"""
_PROBES = {'knn': 'k-nearest neighbours', 'linear': 'linear probe'}


class Run:
    """The files that a run left in its work directory.

    Args:
        work_dir: The directory; ``probe.json`` (of
            ``tools/benchmarks/probe.py``) and ``backbone.pth`` (of
            ``tools/export_backbone.py``) in it are read if they are there.

    Raises:
        FileNotFoundError: Nothing was trained there.
    """

    def __init__(self, work_dir: Union[str, PathLike]) -> None:
        self.work_dir = Path(work_dir)
        scalars = sorted(self.work_dir.glob('*/vis_data/scalars.json'))
        configs = sorted(self.work_dir.glob('*/vis_data/config.py'))
        if not scalars or not configs:
            raise FileNotFoundError(
                f'{work_dir} holds no */vis_data/scalars.json and config.py: '
                'give the work directory of a run of tools/train.py')
        self.config = Config.fromfile(configs[-1])
        self.curves: dict[str, Curve] = read_scalars(scalars)
        self.pictures = sorted(
            (self.work_dir / 'vis').glob('reconstruction_iter_*.png'))
        self.probe = self._json('probe.json')
        self.environment = self._json('environment.json')

    def _json(self, name: str) -> dict:
        path = self.work_dir / name
        return json.loads(path.read_text()) if path.is_file() else {}

    @property
    def backbone(self) -> Optional[Path]:
        """The exported backbone."""
        path = self.work_dir / 'backbone.pth'
        return path if path.is_file() else None

    @property
    def checkpoint(self) -> Optional[Path]:
        """The last checkpoint of training."""
        pointer = self.work_dir / 'last_checkpoint'
        if not pointer.is_file():
            return None
        path = self.work_dir / Path(pointer.read_text().strip()).name
        return path if path.is_file() else None

    def parameters(self) -> dict[str, int]:
        """Number of parameters and buffers of encoder and decoder."""
        if self.checkpoint is None:
            return {}
        tensors = load_checkpoint_safely(self.checkpoint)['state_dict']
        counts = dict.fromkeys(('backbone', 'neck'), 0)
        for name, tensor in tensors.items():
            part = name.split('.')[0]
            if part in counts:
                counts[part] += tensor.numel()
        return dict(encoder=counts['backbone'], decoder=counts['neck'])


def figures(run: Run) -> list[tuple[str, str]]:
    """The table of figures: names and values, as far as the files say."""
    rows = list(_probe_rows(run.probe))
    curves = run.curves
    if not rows and 'monitor/knn_top1' in curves:
        values = curves['monitor/knn_top1'][1]
        rows.append(('k-nearest neighbours, before → after',
                     f'{values[0]:.1f} → {values[-1]:.1f} %'))
    for name in _losses(curves):
        values = curves[name][1]
        rows.append((f'{name}, first → last',
                     f'{values[0]:.4f} → {values[-1]:.4f}'))
    steps = max(max(curve[0]) for curve in curves.values())
    rows.append(('iterations', f'{steps:,}'))
    if 'time' in curves:
        seconds = steps * median(curves['time'][1])
        rows.append(('training time (iterations × median)',
                     f'{int(seconds // 60)} min {seconds % 60:.0f} s'))
    if 'images_per_s' in curves:
        rows.append(('images per second (median)',
                     f'{median(curves["images_per_s"][1]):,.0f}'))
    for part, count in run.parameters().items():
        rows.append((f'parameters of the {part}', f'{count / 1e6:.2f} M'))
    if run.backbone:
        size = run.backbone.stat().st_size / 2**20
        rows.append(('exported backbone', f'{run.backbone} ({size:.1f} MiB)'))
    return rows


def _probe_rows(probe: Mapping) -> Iterable[tuple[str, str]]:
    values = probe.get('values', {})
    before, after = values.get('untrained', {}), values.get('trained', {})
    for name, title in _PROBES.items():
        if name in before and name in after:
            change = after[name] - before[name]
            yield (f'{title}, untrained → pre-trained',
                   f'{before[name]:.1f} → {after[name]:.1f} % '
                   f'({change:+.1f} points)')
        elif name in after:
            yield f'{title}, pre-trained', f'{after[name]:.1f} %'


def _losses(curves: Mapping[str, Curve]) -> list[str]:
    return sorted(name for name in curves if name.startswith('loss'))


def build_report(run: Run, downstream: Sequence[DownstreamRun] = (),
                 name: Optional[str] = None, sections: Sequence[str] = (),
                 next_steps: Optional[Sequence[str]] = None) -> str:
    """The page as HTML; pictures are embedded.

    Args:
        run: The pre-training.
        downstream: Detectors and segmentors; those of one config are
            compared in one table.
        name: Of the run, by default that of its config.
        sections: More HTML, after reconstructions and curves.
        next_steps: HTML of the last section, by default commands for any run.
    """
    name = name or Path(run.config.get('experiment_name')
                        or run.environment.get('config', run.work_dir)).stem
    body = [
        f'<h1>Pre-training: {escape(name)}</h1>', *_introduction(run),
        '<h2>Figures</h2>', html_table(figures(run)), *_pictures(run),
        *_curves(run.curves), *sections, *_downstream(downstream),
        *_environment(run.environment), '<h2>Next steps</h2>',
        *(_next_steps(run) if next_steps is None else next_steps)
    ]
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<title>{escape(name)}</title><style>{_STYLE}</style></head>'
            '<body>\n' + '\n'.join(body) + '\n</body></html>\n')


def _introduction(run: Run) -> Iterable[str]:
    config = run.config
    model = config.model
    masking = model.get('masking', {})
    parts = [
        f'{model.type.split(".")[-1]} with '
        f'{masking.get("type", "").split(".")[-1] or "its own masking"}'
    ]
    if masking.get('num_parts'):
        parts.append(f'{masking.num_parts} parts')
    root = of_files(config.train_dataloader.dataset).get('data_root', '')
    yield (f'<p>{escape(", ".join(parts))}, trained on '
           f'<code>{escape(str(root))}</code> in batches of '
           f'{config.train_dataloader.batch_size}.</p>')
    if 'mini' in Path(root).parts:
        yield ('<p class="note">The mini scenes are a demonstration: they '
               'show that everything works and are no evidence about a '
               'method.</p>')


def html_table(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and values."""
    lines = (f'<tr><td>{escape(name)}</td>'
             f'<td class="figure">{escape(value)}</td></tr>'
             for name, value in rows)
    return '<table>' + '\n'.join(lines) + '</table>'


def _pictures(run: Run) -> Iterable[str]:
    if not run.pictures:
        return
    last = run.pictures[-1]
    step = int(last.stem.rsplit('_', 1)[1])
    yield '<h2>Reconstructions</h2>'
    yield (f'<p>After {step:,} iterations. Each row is one image: the '
           'original, then for each view what the encoder saw and what was '
           'predicted.</p>')
    yield html_image(last.read_bytes(), 'reconstructions', 'pixels')
    yield ('<p class="note">Where the model predicts normalised patches, '
           'they are drawn with the mean and variance of the original '
           'patch.</p>')


def _curves(curves: Mapping[str, Curve]) -> Iterable[str]:
    terms = [name for name in _losses(curves) if name != 'loss']
    # Terms differ in size by orders of magnitude: one picture each.
    plots = [(name, 'loss') for name in terms or _losses(curves)]
    if 'monitor/knn_top1' in curves:
        plots.append(('monitor/knn_top1', 'top-1 accuracy (%)'))
    yield '<h2>Curves</h2><div class="curves">'
    for name, label in plots:
        yield html_image(as_png(plot_curves(curves, [name], label)), name)
    yield '</div>'


def _downstream(runs: Sequence[DownstreamRun]) -> Iterable[str]:
    def config(run: DownstreamRun) -> str:
        return run.config

    for name, group in groupby(sorted(runs, key=config), config):
        same = sorted(group, key=lambda run: run.pretrained)
        task = 'Detection' if 'box AP' in same[0].metrics else 'Segmentation'
        yield f'<h2>{task}: {escape(name)}</h2>'
        yield html_table(
            (f'{"pre-trained" if run.pretrained else "untrained"} backbone, '
             f'{run.steps:,} iterations', ', '.join(
                 f'{key} {value:.1f} %' for key, value in run.metrics.items()))
            for run in same)
        if same[-1].picture:
            yield ('<p>Validation images: annotated to the left, predicted to '
                   'the right.</p>')
            yield html_image(same[-1].picture.read_bytes(), name, 'pixels')


def _environment(environment: Mapping) -> Iterable[str]:
    if not environment:
        return
    rows = [(name, _plain(environment[name]))
            for name in ('machine', 'packages', 'mmeffmae', 'commit', 'python',
                         'platform', 'seed', 'command')
            if environment.get(name) is not None]
    yield '<h2>Environment</h2>'
    yield html_table(rows)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ', '.join(f'{key}: {_plain(item)}'
                         for key, item in value.items() if item != [])
    if isinstance(value, (list, tuple)):
        return ' '.join(map(str, value))
    return str(value)


def backbone_use(run: Run) -> str:
    """How the exported backbone of a run is used."""
    kind, words = 'mmpretrain.VisionTransformer', 'mmeffmae is not needed there'
    own = run.config.model.get('backbone', {}).get('type', '')
    if own.split('.')[-1].startswith('UM'):  # the stock packages have none of these
        kind, words = own, 'with mmeffmae installed'
    return (
        f'<p>Use the backbone in mmpretrain, mmdet or mmseg; {words}:</p><pre>'
        + escape(
            f"backbone=dict(\n    type='{kind}', "
            "...,\n    init_cfg=dict(type='Pretrained', "
            f"checkpoint='{run.backbone}', prefix='backbone.'))") +
        '</pre><p><code>tools/export_backbone.py</code> prints the whole '
        'snippet for each of them.</p>')


def _next_steps(run: Run) -> Iterable[str]:
    if run.backbone:
        yield backbone_use(run)
    yield (
        '<p>Pre-train on your own photographs, any folder of images:</p>'
        '<pre>python tools/train.py configs/mae/'
        'mae_vit-small-p16_1xb256-amp-coslr-300e_folder.py \\\n'
        '    --cfg-options train_dataloader.dataset.data_root=FOLDER</pre>')
    if run.checkpoint:
        yield (
            '<p>Draw reconstructions of images of your choice:</p><pre>'
            'python tools/analysis/visualize_reconstruction.py '
            f'{escape(str(_config_file(run)))} \\\n    '
            f'{escape(str(run.checkpoint))} IMAGE...</pre>')


def _config_file(run: Run) -> Path:
    return Path(run.environment.get('config') or run.config.filename)


def as_png(picture: np.ndarray) -> bytes:
    """The PNG file of an RGB picture ``(H, W, 3)``, uint8."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format='png')
    return buffer.getvalue()


def html_image(png: bytes, alt: str, css: str = '') -> str:
    """A PNG file inside the page."""
    data = base64.b64encode(png).decode()
    return (f'<img class="{css}" alt="{escape(alt)}" '
            f'src="data:image/png;base64,{data}">')
