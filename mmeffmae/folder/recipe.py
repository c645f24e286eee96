# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""From a few choices to a whole config."""
import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config, ConfigDict
from torch import Tensor

import mmeffmae
from mmeffmae.checkpoint.layouts import to_own_names
from mmeffmae.checkpoint.licences import licence_of
from mmeffmae.checkpoint.loading import CheckpointError, load_checkpoint_safely
from mmeffmae.engine.launch import ConfigError

from .survey import Survey


class PlanError(ConfigError):
    """What cannot work, and what would; said before anything runs."""


#: Config of each method for any folder.
METHODS = {
    'mae': 'mae/mae_vit-small-p16_1xb256-amp-coslr-300e_folder.py',
    'mae-muon': 'recommended/mae-muon_vit-small-p16_1xb256-amp-coslr-300e_folder.py',
    'mae-fast': 'mae/mae-fast_vit-small-p16_1xb256-amp-coslr-300e_folder.py',
    'emae': 'emae/emae_vit-small-p16_1xb64-accum4-amp-coslr-300e_folder.py',
    'um-mae': 'um_mae/um-mae_swin-tiny_1xb256-amp-coslr-300e_folder.py',
    'pcae': 'pcae/pcae_vit-small-p16_1xb256-amp-coslr-300e_folder.py',
    'clmae': 'clmae/clmae_vit-small-p16_1xb256-amp-coslr-300e_folder.py',
    'dbp-mae': 'dbp_mae/dbp-mae_vit-small-p16_1xb256-amp-coslr-300e_folder.py',
}
#: Methods that start from no file, and why.
FROM_NOTHING = {
    'clmae': 'its stem and feed-forward parts are in no public file',
    'dbp-mae': 'decorrelation would change the encoder while the decoder warms up',
}
#: Class and name of each encoder; those of a family from the smallest on.
ENCODERS = {
    **{f'vit-{name}': ('mmeffmae.MaskedViT', name[0]) for name in (
        'tiny', 'small', 'base', 'large', 'huge')},
    'pvt-small': ('mmeffmae.UMPVT', 'small'),
    'swin-tiny': ('mmeffmae.UMSwin', 'tiny'),
    'swin-large': ('mmeffmae.UMSwin', 'large'),
}
#: Width and depth of the plain ones.
SIZES = {(192, 12): 'vit-tiny', (384, 12): 'vit-small', (768, 12): 'vit-base',
         (1024, 24): 'vit-large', (1280, 32): 'vit-huge'}
#: Widths of decoders: two thirds of the encoder's, as ViT-B has it in the MAE paper
#: (https://arxiv.org/abs/2111.06377, section 4), so that small encoders do not
#: spend most of a step in the decoder; at most the paper's 512, which larger
#: encoders have, too, or half of it for the light one of MAE-fast.
_DECODERS = {name: 2 * width // 3 for (width, _), name in SIZES.items()}
_WIDEST, _WIDEST_LIGHT, _HEAD = 512, 256, 32


@dataclass(frozen=True)
class InitialWeights:
    """A file to start from, and what its encoder is.

    Attributes:
        path: The file.
        nested: Whether its encoder is below ``backbone.``.
        encoder: One of :data:`ENCODERS`; None if it cannot be told.
        patch_size: Of its patch embedding, if it can be told.
        layer_scale: Whether it has layer scale, as DINOv2 has.
        licence: Of the weights.
    """
    path: Path
    nested: bool
    encoder: Optional[str]
    patch_size: Optional[int]
    layer_scale: bool
    licence: str

    @classmethod
    def read(cls, path: str) -> 'InitialWeights':
        """Look into a file.

        Raises:
            PlanError: It cannot be used.
        """
        try:
            content = load_checkpoint_safely(path)
            tensors = content.get('state_dict', content)
            nested = any(key.startswith('backbone.') for key in tensors)
            own = to_own_names({
                key.removeprefix('backbone.'): value
                for key, value in tensors.items() if isinstance(value, Tensor)})
        except (CheckpointError, FileNotFoundError) as error:
            raise PlanError(f'--init: {error}') from error
        projection = own.get('patch_embed.projection.weight')
        plain = projection is not None and 'pos_embed' in own
        depth = len({key.split('.')[1] for key in own if key.startswith('layers.')})
        return cls(
            Path(path).expanduser().absolute(), nested,
            SIZES.get((own['pos_embed'].shape[-1], depth)) if plain else None,
            projection.shape[-1] if plain and projection is not None else None,
            any('.gamma1.' in key for key in own), licence_of(path, content))


@dataclass(frozen=True)
class Recipe:
    """The choices that decide what a training step is.

    Attributes:
        method: One of :data:`METHODS`.
        encoder: One of :data:`ENCODERS`.
        img_size: Pixels a side.
        patch_size: Pixels a side.
        batch: Images of a step.
        accumulate: Steps whose gradients are added up for one update.
        init: Weights of the encoder.
        precision: ``'bf16'`` or ``'fp32'``.
        low: Share of the iterations on images of half the side; None for none.
        kept: Longest side of the photographs that stay on the device, in pixels;
            None reads files.
    """
    method: str
    encoder: str
    img_size: int
    patch_size: int
    batch: int
    accumulate: int = 1
    init: Optional[InitialWeights] = None
    precision: str = 'fp32'
    low: Optional[float] = None
    kept: Optional[int] = None

    @property
    def effective_batch(self) -> int:
        """Images of an update."""
        return self.batch * self.accumulate

    def decoder_width(self) -> int:
        """Channels of the decoder behind a plain vision transformer."""
        widest = _WIDEST_LIGHT if self.method == 'mae-fast' else _WIDEST
        return min(_DECODERS[self.encoder], widest)

    def smaller(self) -> list['Recipe']:
        """The same with each smaller encoder of its family, the largest first."""
        family = [name for name in ENCODERS
                  if name.split('-')[0] == self.encoder.split('-')[0]]
        before = family[:family.index(self.encoder)]
        return [replace(self, encoder=name, init=None) for name in reversed(before)]

    def config(self, survey: Survey, images: Path,
               options: Optional[Mapping[str, Any]] = None) -> Config:
        """The config, but for its schedule.

        Args:
            survey: Of the folder.
            images: List of the images to read.
            options: Changes of the user, merged last.
        """
        cfg = Config.fromfile(config_folder() / METHODS[self.method])
        kind, arch = ENCODERS[self.encoder]
        backbone = cfg.model.backbone
        backbone.update(
            type=kind, arch=arch, img_size=self.img_size, patch_size=self.patch_size,
            in_channels=survey.channels)
        if self.encoder in _DECODERS:
            width = self.decoder_width()
            cfg.model.neck.update(
                decoder_embed_dim=width, decoder_num_heads=width // _HEAD)
        if self.init is not None:
            backbone.init_cfg = dict(
                type='Pretrained', checkpoint=str(self.init.path),
                prefix='backbone.' if self.init.nested else None)
            if self.init.layer_scale:
                backbone.layer_scale_init_value = 1e-5
            cfg.custom_hooks = [dict(type='mmeffmae.DecoderWarmupHook')]
        if self.low is not None:
            cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(
                type='mmeffmae.ProgressiveResolutionHook',
                phases=[dict(until=self.low, size=self.img_size // 2)])]
        loader = cfg.train_dataloader
        loader.batch_size = self.batch
        loader.dataset.update(
            data_root=str(survey.folder.absolute()), ann_file=str(images.absolute()),
            pipeline=_pipeline(loader.dataset.pipeline, self.img_size, survey))
        if self.kept:
            _keep_on_device(loader, self.kept)
        if not survey.photographs:
            cfg.data_preprocessor = ConfigDict(
                type='mmeffmae.BandDataPreprocessor', mean=survey.mean,
                std=survey.std, to_rgb=survey.channels == 3)
        cfg.optim_wrapper.accumulative_counts = self.accumulate
        cfg.optim_wrapper.enabled = self.precision == 'bf16'
        merge_options(cfg, options)
        return cfg


def merge_options(cfg: Config, options: Optional[Mapping[str, Any]]) -> None:
    """Merge what the user changes, in place.

    Raises:
        PlanError: A list of hooks replaces one that the plan counts on.
    """
    planned = [hook['type'] for hook in cfg.get('custom_hooks') or []]
    cfg.merge_from_dict(copy.deepcopy(dict(options or {})))
    left = [hook['type'] for hook in cfg.get('custom_hooks') or []]
    if lost := [name for name in planned if name not in left]:
        raise PlanError(
            f'--cfg-options custom_hooks leaves out {", ".join(lost)}, which the plan '
            'has: name it as well, or drop the option that wants it')


def _pipeline(pipeline: list, img_size: int, survey: Survey) -> list:
    """The pipeline at a size; of other images than photographs with their bands."""
    steps = []
    for step in copy.deepcopy(pipeline):
        if 'scale' in step:
            step['scale'] = img_size
        if step['type'] == 'mmeffmae.LoadRandomResizedCrop' and not survey.photographs:
            steps.append(ConfigDict(type='mmeffmae.LoadBands', bands=survey.channels))
            step['type'] = 'mmpretrain.RandomResizedCrop'
        steps.append(step)
    return steps


def _keep_on_device(loader: ConfigDict, side: int) -> None:
    """Read the files once, and crop on the device; in place."""
    steps = {step.type.split('.')[-1]: step for step in loader.dataset.pipeline}
    crop = steps['LoadRandomResizedCrop']
    loader.dataset = ConfigDict(
        type='mmeffmae.DeviceImages', scale=crop.scale, store=side,
        crop_ratio_range=crop.crop_ratio_range, flip_prob=steps['RandomFlip'].prob,
        dataset=loader.dataset)
    loader.collate_fn = ConfigDict(type='mmeffmae.whole_batch')


def config_folder() -> Path:
    """The package's configs, in a checkout or an installed wheel."""
    package = Path(mmeffmae.__file__).parent
    checkout = package.parent / 'configs'
    return checkout if checkout.is_dir() else package / '.mim' / 'configs'
