# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Detectors and segmentors from a pre-trained and an untrained backbone.

Both train the same steps on the same images, crops and seeds; one shard for
each config, initialisation and seed.
"""
import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config, DictAction

from mmeffmae.config_hash import config_hash
from mmeffmae.evaluation.downstream import DownstreamRun
from mmeffmae.evaluation.record import file_hash, provenance, write_json

from .label_share import write_share

TRAIN = Path(__file__).parents[2] / 'tools' / 'train.py'


def parsed_options(options: Sequence[str]) -> dict[str, Any]:
    """Options of a command line as a config merges them."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='*', action=DictAction, default={})
    return parser.parse_args(['--options', *options]).options or {}


@dataclass(frozen=True)
class DenseRun:
    """One training run of the comparison.

    Attributes:
        config: Config file of a detector or segmentor whose backbone has
            ``init_cfg=dict(type='Pretrained', ...)``.
        backbone: Exported backbone, or None for an untrained one.
        seed: Seed of new weights, order of images and crops.
        options: Changes of the config, as for ``--cfg-options``.
        label: Name of the backbone, ``'pretrained'`` by default.
        share: Of the training labels, see
            :func:`mmeffmae.benchmarks.label_share.write_share`.
    """
    config: Path
    backbone: Optional[Path]
    seed: int
    options: tuple[str, ...] = ()
    label: str = 'pretrained'
    share: float = 1.0

    @property
    def init(self) -> str:
        """What the backbone starts from."""
        return 'untrained' if self.backbone is None else self.label

    @property
    def name(self) -> str:
        """Name of the shard: the same for the same work."""
        settings = Config.fromfile(self.config)
        # The content of the backbone counts, not where it lies.
        settings.model.backbone.init_cfg = self.backbone and dict(
            hash=file_hash(self.backbone))
        settings.cfg_options = sorted(self.options)
        if self.share != 1:
            settings.label_share = self.share
        return (f'{self.config.stem}_{self.init}_'
                f'{config_hash(settings)}_seed{self.seed}')

    def command(self, work_dir: Path) -> list[str]:
        """The command line that trains and validates."""
        start = 'model.backbone.init_cfg'
        start += '=None' if self.backbone is None else (
            f'.checkpoint={self.backbone}')
        return [
            sys.executable, str(TRAIN), str(self.config), '--resume',
            '--work-dir', str(work_dir), '--seed', str(self.seed),
            '--cfg-options', start, *self.options
        ]

    def measure(self, out: Path, work_dirs: Path) -> Path:
        """Train, validate and write the shard, unless it is there.

        A run that was stopped goes on from its last checkpoint.

        Args:
            out: Folder of the shards.
            work_dirs: Folder for logs and checkpoints.

        Returns:
            The shard.

        Raises:
            subprocess.CalledProcessError: Training failed.
        """
        name = self.name
        shard = out / f'{name}.json'
        if shard.is_file():
            return shard
        work_dir = work_dirs / name
        config = Config.fromfile(self.config)
        # Options may name other data than the config.
        config.merge_from_dict(parsed_options(self.options))
        command = self.command(work_dir)
        # The list of labels is no part of the name, which says the share, nor of
        # the record: it has to be given with its absolute path.
        subprocess.run(command + write_share(
            config.train_dataloader, self.share, work_dirs), check=True)
        result = DownstreamRun.read(work_dir)
        content: dict[str, Any] = dict(
            data=_data_name(config),
            config=str(self.config),
            init=self.init,
            share=self.share,
            seed=self.seed,
            iterations=result.steps,
            values=result.metrics,
            backbone=self.backbone and dict(
                path=str(self.backbone), hash=file_hash(self.backbone)),
            train_command=['python', 'tools/train.py', *command[2:]])
        write_json({**content, **provenance()}, shard)
        return shard


def _data_name(config: Config) -> str:
    parts = Path(config.train_dataloader.dataset.data_root).parts
    return 'mini' if 'mini' in parts else parts[-1]
