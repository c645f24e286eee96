# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What a backbone starts from: the same task from each, by labels and seeds."""
import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Optional

import cv2
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmeffmae.checkpoint import CheckpointError
from mmeffmae.checkpoint.interop import read_backbone
from mmeffmae.config_hash import config_hash
from mmeffmae.evaluation.building import (
    build_model,
    load_weights,
    probe_task,
    quiet,
)
from mmeffmae.evaluation.finetune import FinetuneSchedule
from mmeffmae.evaluation.probes import finetune
from mmeffmae.evaluation.record import file_hash, provenance, write_json
from mmeffmae.inference import loader_settings

from .dense import DenseRun
from .picture import picture
from .shards import read_json
from .statistics import resolved
from .tables import markdown_table, measured

#: What a backbone can start from, in the order of tables.
INITS = ('untrained', 'public', 'scratch', 'continued')
_OWN = ('scratch', 'continued')


@dataclass(frozen=True)
class ClassRun:
    """Fine-tuning of a classifier, as :mod:`mmeffmae.evaluation.finetune` does it.

    Attributes:
        config: Config file of a pre-training.
        backbone: File of its encoder, or None for an untrained one.
        seed: Of new weights, order of images and crops.
        label: Name of the backbone.
        share: Of the labels; the number of steps stays.
        schedule: How to fine-tune.
        labelled: Folders to learn from and to be judged on, a sub-folder a class;
            by default the datasets of the config.
        options: Changes of the config.
        device: Where to train.
    """
    config: Path
    backbone: Optional[Path]
    seed: int
    label: str
    share: float
    schedule: FinetuneSchedule
    labelled: Optional[tuple[Path, Path]] = None
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str = 'cpu'

    @property
    def init(self) -> str:
        """What the backbone starts from."""
        return 'untrained' if self.backbone is None else self.label

    def settings(self) -> Config:
        """The config, with the labelled folders."""
        config = Config.fromfile(self.config)
        if self.options:
            config.merge_from_dict(copy.deepcopy(dict(self.options)))
        config.model.backbone.init_cfg = None
        if self.labelled is not None:
            for name, root in zip(('probe_bank', 'probe_query'), self.labelled):
                config[name] = labelled_images(config, root)
        return config

    def measure(self, out: Path, work_dirs: Path) -> Path:
        """Fine-tune and write the shard, unless it is there.

        Args:
            out: Folder of the shards.
            work_dirs: Not used; nothing is kept.

        Returns:
            The shard.
        """
        config = self.settings()
        named = config.copy()
        named.class_run = dict(
            hash=self.backbone and file_hash(self.backbone), share=self.share,
            schedule=asdict(self.schedule))
        name = f'{self.config.stem}_{self.init}_{config_hash(named)}_seed{self.seed}'
        shard = out / f'{name}.json'
        if shard.is_file():
            return shard
        model = build_model(config, self.seed, self.device)
        if self.backbone is not None:
            print(load_weights(model.backbone, self.backbone, 'backbone.')[1])
        values, settings = self._finetune(config, model)
        write_json(dict(
            data=_data_name(config), config=str(self.config), init=self.init,
            share=self.share, seed=self.seed, iterations=self.schedule.steps,
            values=values, settings=settings, backbone=self.backbone and dict(
                path=str(self.backbone), hash=file_hash(self.backbone)),
            **provenance(self.device)), shard)
        return shard

    def _finetune(
        self, config: Config, model: nn.Module
    ) -> tuple[dict[str, float], dict[str, Any]]:
        if workers := loading_processes(self.device):
            cv2.setNumThreads(0)  # its threads and forked workers do not go together
        task = probe_task(
            config, model, 'final', self.device, self.schedule, seed=self.seed,
            num_workers=workers)
        classes = [getattr(data, 'CLASSES', None) for data in (task.bank, task.query)]
        if classes[0] != classes[1]:
            raise ValueError(
                f'the classes to learn, {classes[0]}, are not those to be judged on, '
                f'{classes[1]}: give both folders the same sub-folders')
        task = task.untrained() if self.backbone is None else task
        value = finetune(task, name='finetune', share=self.share)
        return {'top-1': round(value, 3)}, task.settings['finetune']


def labelled_images(config: Config, root: Path) -> dict[str, Any]:
    """Settings of a folder of classes, whole images with the pre-training's bands."""
    size = config.model.backbone.img_size
    return dict(
        type='mmeffmae.LabelledImages', data_root=str(root), test_mode=True,
        pipeline=[
            loader_settings(config),
            dict(type='mmpretrain.ResizeEdge', scale=size, backend='cv2',
                 interpolation='bicubic'),
            dict(type='mmpretrain.CenterCrop', crop_size=size),
            dict(type='mmpretrain.PackInputs'),
        ])


def loading_processes(device: str) -> int:
    """Processes that load for a GPU, which one alone would keep waiting.

    They change no result: samples are keyed.
    """
    return 0 if device == 'cpu' else min(len(os.sched_getaffinity(0)), 16)


def _data_name(config: Config) -> str:
    settings = config.get('probe_query') or {}
    return Path(settings.get('data_root', '')).name or 'unknown'


def runs_of(
    config: Path,
    backbones: Mapping[str, Optional[Path]],
    share: float,
    seed: int,
    options: Sequence[str],
    merged: Mapping[str, Any],
    schedule: FinetuneSchedule,
    labelled: Optional[tuple[Path, Path]],
    device: str,
) -> list[DenseRun | ClassRun]:
    """One run for each backbone of one config.

    Args:
        config: Of a pre-training, whose encoder becomes a classifier, or of a
            detector or segmentor.
        backbones: By name, one of :data:`INITS`; None is untrained.
        share: Of the labels.
        seed: Of the runs.
        options: Changes of the config, as on a command line.
        merged: The same, parsed.
        schedule: Of classifiers.
        labelled: Of classifiers.
        device: Of classifiers; others train on the GPU if there is one.
    """
    if 'masking' not in Config.fromfile(config).model:
        return [DenseRun(config, backbone, seed, tuple(options), name, share)
                for name, backbone in backbones.items()]
    return [ClassRun(config, backbone, seed, name, share, schedule, labelled, merged,
                     device) for name, backbone in backbones.items()]


def stock_files(files: Mapping[str, Optional[Path]],
                folder: Path) -> dict[str, Optional[Path]]:
    """Every file under the names that all backbones load, and the untrained one."""
    found: dict[str, Optional[Path]] = {'untrained': None}
    for name, path in files.items():
        if path is not None:
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / f'{path.stem}_{file_hash(path)}.pth'
            found[name] = read_backbone(path, target)
    return found


def check_backbones(
    config: Path, options: Mapping[str, Any],
    backbones: Mapping[str, Optional[Path]],
) -> None:
    """Load every file into the encoder of a config, before hours of training.

    Args:
        config: Of a pre-training, a detector or a segmentor.
        options: Changes of it.
        backbones: By name, as of :func:`stock_files`.

    Raises:
        CheckpointError: A file does not fit.
    """
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(copy.deepcopy(dict(options)))
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    with quiet():
        encoder = MODELS.build(dict(cfg.model.backbone, init_cfg=None))
    for name, path in backbones.items():
        if path is None:
            continue
        try:
            load_weights(encoder, path, 'backbone.')
        except CheckpointError as error:
            raise CheckpointError(
                f'--{name} does not fit the encoder of {config}, and all starts have '
                f'to be of one: {error}') from error


@dataclass(frozen=True)
class Comparison:
    """Results of one config and metric.

    Attributes:
        title: Data and config.
        metric: Its name, percent.
        values: Of every seed, by what the backbone starts from and share.
        iterations: Steps of each run.
    """
    title: str
    metric: str
    values: dict[str, dict[float, list[float]]]
    iterations: int

    @property
    def shares(self) -> list[float]:
        """All shares, the smallest first."""
        return sorted({share for of in self.values.values() for share in of})

    def verdict(self, share: float) -> str:
        """Which file to use, in a sentence."""
        of = {name: values[share] for name, values in self.values.items()
              if share in values}
        own = [name for name in _OWN if name in of]
        if not own:
            return 'no weights of our own to judge'
        best = max(own, key=lambda name: fmean(of[name]))
        other = 'public' if 'public' in of else 'untrained'
        if other not in of:
            return f'nothing to compare {best} with'
        gain = fmean(of[best]) - fmean(of[other])
        seeds = min(len(of[best]), len(of[other]))
        text = f'{best} {gain:+.1f} points over {other}'
        if not resolved(of[best], of[other]):
            mend = 'more seeds would tell' if seeds < 3 else 'equal for all we know'
            advice = ('use the public weights, which cost nothing' if
                      other == 'public' else 'pre-training has not paid yet')
            number = f'{seeds} seed' + 's' * (seeds > 1)
            return f'{text}, not resolved by {number} ({mend}): {advice}'
        if gain < 0:
            return f'{text}: ' + ('use the public weights' if other == 'public' else
                                  'pre-training does harm here')
        return f'{text}: use {best}'


def read_comparisons(files: Sequence[Path]) -> list[Comparison]:
    """Group shards by config and metric."""
    found: dict[tuple, Comparison] = {}
    for path in sorted(files):
        of = read_json(path)
        for metric, value in of['values'].items():
            title = f'{of["data"]}, {Path(of["config"]).stem}'
            key = title, metric, of['iterations']
            one = found.setdefault(
                key, Comparison(title, metric, {}, of['iterations']))
            shares = one.values.setdefault(of['init'], {})
            shares.setdefault(of['share'], []).append(value)
    return list(found.values())


def init_tables(comparisons: Sequence[Comparison]) -> str:
    """Markdown: a table for each, and what follows from it."""
    parts = []
    for one in comparisons:
        rows = [[name, *(measured(one.values[name][share]) if share in one.values[name]
                         else '–' for share in one.shares)]
                for name in INITS if name in one.values]
        seeds = sorted({len(values) for of in one.values.values()
                        for values in of.values()})
        number = '–'.join(map(str, sorted({seeds[0], seeds[-1]})))
        columns = [f'{100 * share:g} % of the labels' for share in one.shares]
        parts += [
            f'### {one.title}: {one.metric}, %',
            f'{one.iterations:,} iterations at every share of the labels; seeds: '
            f'{number}.',
            markdown_table(['start', *columns], rows),
            '\n'.join(f'- {column}: {one.verdict(share)}.'
                      for column, share in zip(columns, one.shares))]
    return '\n\n'.join(parts) + '\n'


def plot_inits(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw every seed and the means over the share of the labels.

    Args:
        comparisons: One panel each.
        path: PNG to write; equal results give an equal file.
    """
    count = len(comparisons)
    with picture(path, 4.6 * count, 3.6) as figure:
        for number, one in enumerate(comparisons, 1):
            axes = figure.add_subplot(1, count, number)
            for name in (name for name in INITS if name in one.values):
                color = f'C{INITS.index(name)}'
                shares = sorted(one.values[name])
                means = [fmean(one.values[name][share]) for share in shares]
                percent = [100 * share for share in shares]
                axes.plot(percent, means, color=color, label=name)
                for x, share in zip(percent, shares):
                    values = one.values[name][share]
                    axes.plot([x] * len(values), values, 'o', color=color, markersize=3)
            axes.set_xscale('log')
            ticks = [100 * share for share in one.shares]
            axes.set_xticks(ticks, [f'{tick:g} %' for tick in ticks])
            axes.minorticks_off()
            axes.set_xlabel('share of the labels')
            axes.set_ylabel(f'{one.metric}, %')
            axes.set_title(one.title, fontsize=8)
            axes.grid(alpha=0.3)
            axes.legend()
