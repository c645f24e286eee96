# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What a detector or segmentor reached, read from its work directory."""
import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Optional, Union

from mmengine.config import Config

from mmeffmae.visualization.curves import read_scalars

#: Logged scalar, name in tables, and the factor that makes it percent.
METRICS = (('coco/bbox_mAP', 'box AP', 100.0),
           ('coco/segm_mAP', 'mask AP', 100.0), ('mIoU', 'mIoU', 1.0))


@dataclass(frozen=True)
class DownstreamRun:
    """A finished run of ``tools/train.py`` on a dense task.

    Attributes:
        config: Name of the config file, without folder and suffix.
        pretrained: Whether its backbone started from a file.
        steps: Number of optimizer steps.
        metrics: Percent by name, of the last validation.
        picture: Its last picture of predictions.
    """
    config: str
    pretrained: bool
    steps: int
    metrics: dict[str, float]
    picture: Optional[Path]

    @classmethod
    def read(cls, work_dir: Union[str, PathLike]) -> 'DownstreamRun':
        """Read the files that the run left.

        Raises:
            FileNotFoundError: Nothing was trained there, or training has not
                come to its validation.
        """
        folder = Path(work_dir)
        configs = sorted(folder.glob('*/vis_data/config.py'))
        curves = read_scalars(sorted(folder.glob('*/vis_data/scalars.json')))
        metrics = {
            name: round(factor * curves[scalar][1][-1], 3)
            for scalar, name, factor in METRICS if scalar in curves
        }
        if not configs or not metrics:
            raise FileNotFoundError(
                f'{folder} has no result of a detector or segmentor '
                f'({", ".join(scalar for scalar, _, _ in METRICS)}): give the '
                'work directory of a finished run of tools/train.py')
        backbone = Config.fromfile(configs[-1]).model.backbone
        record = json.loads((folder / 'environment.json').read_text())
        pictures = sorted(folder.glob('vis/predictions_iter_*.png'))
        return cls(
            config=Path(record['config']).stem,
            pretrained=bool(backbone.get('init_cfg')),
            steps=curves['loss'][0][-1],
            metrics=metrics,
            picture=pictures[-1] if pictures else None)
