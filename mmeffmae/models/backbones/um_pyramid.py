# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import torch
from mmcv.cnn.bricks.drop import DropPath
from mmcv.cnn.bricks.transformer import FFN, PatchEmbed
from mmengine.model import BaseModule
from mmengine.utils import to_2tuple
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mmeffmae.checkpoint.um_mae_layout import encoder_from_official
from mmeffmae.masking import MaskPlan

from ..layers import (
    INIT_CFG,
    UNIT,
    CompactLayout,
    assemble,
    check_depth,
    divide_image,
    gather_pixels,
    init_convolution,
    project_fields,
)

OUT_TYPES = ('featmap', 'avg_featmap')


class PatchMerge(nn.Module):
    """2 × 2 tokens to one by a convolution, after a norm if asked.

    Args:
        in_channels (int): Channels before.
        out_channels (int): Channels after.
        norm (bool): Whether a norm comes first.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_channels, eps=1e-6) if norm else nn.Identity()
        self.reduction = nn.Conv2d(in_channels, out_channels, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """``(R, H, W, C)`` to ``(R, ceil(H / 2), ceil(W / 2), C')``."""
        x = self.norm(x)
        odd = x.size(1) % 2, x.size(2) % 2
        if any(odd):
            x = F.pad(x, (0, 0, 0, odd[1], 0, odd[0]))
        return self.reduction(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class PyramidBlock(nn.Module):
    """A pre-norm block; the first one of a stage merges patches before.

    Args:
        attn (nn.Module): Called as ``attn(x, how)``.
        embed_dims (int): Channels.
        mlp_ratio (int): Hidden width of the feed-forward part, in channels.
        drop_path_rate (float): Stochastic depth of both branches.
        downsample (nn.Module, optional): A :class:`PatchMerge`.
    """

    def __init__(
        self,
        attn: nn.Module,
        embed_dims: int,
        mlp_ratio: int,
        drop_path_rate: float,
        downsample: Optional[nn.Module] = None,
    ) -> None:
        super().__init__()
        self.downsample = downsample
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-5)
        self.attn = attn
        self.drop_path = DropPath(drop_path_rate)
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-5)
        self.ffn = FFN(
            embed_dims, mlp_ratio * embed_dims, act_cfg=dict(type='GELU'),
            dropout_layer=dict(type='DropPath', drop_prob=drop_path_rate))

    def forward(self, x: Tensor, how: Any) -> Tensor:
        """``(R, H, W, C)`` to the map of the stage."""
        if self.downsample is not None:
            x = self.downsample(x)
        x = x + self.drop_path(self.attn(self.norm1(x), how))
        return self.ffn(self.norm2(x), identity=x)


class UMPyramid(BaseModule):
    """What :class:`UMSwin` and :class:`UMPVT` share.

    A patch of the masks is 4 × 4 tokens of the first stage, and the last of
    four stages has one token for 2 × 2 patches. With a plan the pixels of
    the visible patches are put together to a smaller image, and only that is
    embedded; without one this is an ordinary backbone at any input size.

    Args:
        arch (str | dict): A name of ``arch_zoo``, or its settings.
        img_size (int | tuple[int, int]): Height and width in pre-training.
        patch_size (int): Side of a patch of the masks, in pixels; the patch
            embedding has a quarter of it.
        in_channels (int): Channels of the images.
        drop_path_rate (float): Stochastic depth of the last block; it grows
            linearly from 0.
        out_indices (Sequence[int]): Stages whose maps are returned, each
            after a norm of its own.
        out_type (str): ``'featmap'``, or ``'avg_featmap'``: the mean over
            the last map's tokens, then a norm, as fine-tuning does.
        frozen_stages (int): Stages that do not learn, after the patch
            embedding, which with 0 alone does not; 4 freezes everything.
            Defaults to -1, none.
        with_cp (bool): Recompute activations in the backward pass.
        init_cfg (dict, optional): With type ``Pretrained`` no weight is
            initialised beside the loaded ones.

    Raises:
        ValueError: If an option is unknown or sizes do not fit.
    """

    arch_zoo: dict[str, dict] = {}

    def __init__(
        self,
        arch: Union[str, dict],
        img_size: Union[int, tuple[int, int]] = 256,
        patch_size: int = 16,
        in_channels: int = 3,
        drop_path_rate: float = 0.,
        out_indices: Sequence[int] = (3, ),
        out_type: str = 'featmap',
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(init_cfg or INIT_CFG)
        self.arch = arch
        self.arch_settings = self._settings(arch)
        self.img_size = tuple(to_2tuple(img_size))
        self.patch_size = patch_size
        self.in_channels = in_channels
        self.with_cp = with_cp
        self.out_indices = tuple(out_indices)
        self.out_type = out_type
        self._check_options()
        self.patch_resolution = self.patch_grid(self.img_size)
        self.depths = tuple(self.arch_settings['depths'])
        for depth in self.depths:
            check_depth(depth, 'depths', type(self).__name__)
        self.num_layers = sum(self.depths)
        self.widths = self._widths()
        self.embed_dims = self.widths[-1]
        self.patch_embed = PatchEmbed(
            in_channels, self.widths[0], kernel_size=patch_size // UNIT,
            stride=patch_size // UNIT, norm_cfg=self._embed_norm())
        # Floats, since numpy scalars break the graph of torch.compile.
        last = max(self.num_layers - 1, 1)
        rates = [drop_path_rate * i / last for i in range(self.num_layers)]
        self.blocks = nn.ModuleList(
            self._build_block(stage, index == 0, rates.pop(0))
            for stage, depth in enumerate(self.depths) for index in range(depth))
        if out_type == 'featmap':
            for stage in self.out_indices:
                norm = nn.LayerNorm(self.widths[stage], eps=1e-6)
                self.add_module(f'norm{stage}', norm)
        else:
            self.fc_norm = nn.LayerNorm(self.embed_dims, eps=1e-6)
        self.mask_token: Optional[nn.Parameter] = None
        self._register_load_state_dict_pre_hook(self._prepare_loaded)
        self.frozen_stages = frozen_stages
        self._freeze()

    @classmethod
    def _settings(cls, arch: Union[str, dict]) -> dict:
        if isinstance(arch, dict):
            return dict(arch)
        if arch.lower() not in cls.arch_zoo:
            raise ValueError(
                f'arch {arch!r} is unknown ({cls.__name__}): choose from '
                f'{sorted(cls.arch_zoo)}, or give a dict')
        return cls.arch_zoo[arch.lower()]

    def _check_options(self) -> None:
        name = type(self).__name__
        if self.patch_size % UNIT:
            raise ValueError(
                f'patch_size {self.patch_size} ({name}): a patch is '
                f'{UNIT}x{UNIT} tokens, so use a multiple of {UNIT}')
        if self.out_type not in OUT_TYPES:
            raise ValueError(
                f'out_type {self.out_type!r} is unknown ({name}): choose from '
                f'{OUT_TYPES}')
        if not self.out_indices or not set(self.out_indices) <= set(range(4)):
            raise ValueError(
                f'out_indices {self.out_indices} ({name}): name one or more of '
                'the four stages, 0 to 3')
        if self.out_type == 'avg_featmap' and self.out_indices != (3, ):
            raise ValueError(
                f'out_indices {self.out_indices} with out_type avg_featmap '
                f'({name}): the mean is of the last stage, (3, )')

    def _widths(self) -> tuple[int, ...]:
        """Channels of every stage."""
        raise NotImplementedError

    def _embed_norm(self) -> Optional[dict]:
        """Norm of the patch embedding."""
        return None

    def _build_block(self, stage: int, first: bool, rate: float) -> PyramidBlock:
        raise NotImplementedError

    def _how(
        self, stage: int, size: tuple[int, int], compact: Optional[CompactLayout],
        device: torch.device
    ) -> Sequence[Any]:
        """What the attention of a stage is told, in turns of its blocks."""
        raise NotImplementedError

    def _merge(self, stage: int, norm: bool) -> Optional[PatchMerge]:
        if stage == 0:
            return None
        return PatchMerge(self.widths[stage - 1], self.widths[stage], norm)

    def init_weights(self) -> None:
        """UM-MAE's initialisation, unless ``init_cfg`` loads weights."""
        super().init_weights()
        if isinstance(self.init_cfg, dict) and \
                self.init_cfg['type'] == 'Pretrained':
            return
        for module in self.modules():
            if isinstance(module, PatchMerge):
                init_convolution(module.reduction)
        nn.init.xavier_uniform_(self.patch_embed.projection.weight.data.flatten(1))
        nn.init.zeros_(self.patch_embed.projection.bias)
        self._init_own()

    def _init_own(self) -> None:
        """Initialise what only a subclass has."""

    def add_mask_token(self) -> None:
        """Create what stands for hidden patches; pre-training alone has it."""
        token = torch.empty(1, 1, self.widths[0])
        self.mask_token = nn.Parameter(nn.init.normal_(token, std=.02))

    def freeze_pos_embed(self) -> None:
        """Keep the position table fixed, as pre-training does, if any."""

    def _frozen(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        if self.frozen_stages > 3:
            return [self]
        return [self.patch_embed, *self.blocks[:sum(self.depths[:self.frozen_stages])]]

    def _freeze(self) -> None:
        # When it is built, since DDP and optimizers look before training.
        for module in self._frozen():
            module.requires_grad_(False)
            for part in module.modules():
                part.training = False

    def train(self, mode: bool = True) -> 'UMPyramid':
        """As torch's; frozen parts stay in eval mode."""
        super().train(mode)
        self._freeze()
        return self

    def patch_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches of an image of ``(H, W)`` pixels.

        Raises:
            ValueError: If the patch size does not divide both.
        """
        return divide_image(size, self.patch_size, type(self).__name__)

    def check_plan(self, plan: MaskPlan) -> None:
        """Say early what this encoder cannot take.

        Raises:
            ValueError: If the visible patches of the plan make no image, the
                stages do not divide it, or there is no token for hidden ones.
        """
        name = type(self).__name__
        if self.out_type != 'featmap' or tuple(self.out_indices) != (3, ):
            raise ValueError(
                f'out_type {self.out_type!r} with out_indices {self.out_indices} '
                f'({name}): pre-training needs the last map alone, featmap and (3, ), '
                'since norms of others would get no gradient')
        if plan.cell is None:
            raise ValueError(
                'the visible patches of the plan make no smaller image, which '
                f'{name} needs: use UniformMasking, which sees one patch of '
                'every cell, or WholeImageMasking')
        if any(side % (2 * plan.cell) for side in plan.grid):
            raise ValueError(
                f'a grid of {plan.grid} patches ({name}): the last stage joins '
                f'2x2 cells of {plan.cell}x{plan.cell} patches, so use images of '
                f'a multiple of {2 * plan.cell * self.patch_size} px a side')
        if plan.hidden is not None and self.mask_token is None:
            raise ValueError(
                'the plan hides visible patches behind a learnable token, and '
                f'this {name} has none: call add_mask_token(), as '
                'MaskedAutoencoder does for a masking that hides')

    def forward(
        self, images: Tensor, plan: Optional[MaskPlan] = None
    ) -> Union[Tensor, tuple[Tensor, ...]]:
        """Encode visible patches, or whole images without a plan.

        Args:
            images (Tensor): ``(B, C, H, W)``.
            plan (MaskPlan, optional): K views of each image.

        Returns:
            Tensor | tuple[Tensor]: With a plan ``(B·K, V/4, C)``, after the
            final norm, one token for 2 × 2 slots in row-major order; without
            one an output of ``out_type`` for each of ``out_indices``.
        """
        if plan is not None:
            layout = CompactLayout.of(plan)
            maps = self._stages(
                self._embed_visible(images, plan, layout),
                layout if layout.cell > 1 else None)
            return maps[-1].flatten(1, 2)
        tokens, size = self.patch_embed(images)
        maps = self._stages(self._add_positions(tokens.unflatten(1, size)))
        if self.out_type == 'avg_featmap':
            return (self.fc_norm(maps[-1].mean(dim=(1, 2))), )
        return tuple(x.permute(0, 3, 1, 2).contiguous() for x in maps)

    def _add_positions(self, x: Tensor) -> Tensor:
        """Of whole images, ``(B, H, W, C)``."""
        return x

    def _visible_positions(self, plan: MaskPlan) -> Optional[Tensor]:
        """Of the tokens of visible patches, ``(R, V, UNIT·UNIT, C)``."""
        return None

    def _embed_visible(
        self, images: Tensor, plan: MaskPlan, layout: CompactLayout
    ) -> Tensor:
        pixels = gather_pixels(images, plan, self.patch_size // UNIT)
        tokens = project_fields(self.patch_embed.projection, pixels)
        norm = self.patch_embed.norm or nn.Identity()
        tokens = norm(tokens)
        if plan.hidden is not None:
            hidden = plan.hidden.flatten(0, 1)[..., None, None]
            token = norm(self.mask_token).to(tokens.dtype)
            tokens = torch.where(hidden, token, tokens)
        positions = self._visible_positions(plan)
        if positions is not None:
            tokens = tokens + positions
        return assemble(tokens, layout.slots)

    def _stages(
        self, x: Tensor, compact: Optional[CompactLayout] = None
    ) -> list[Tensor]:
        """Maps of ``out_indices``, ``(R, H, W, C)``."""
        outs = []
        index = 0
        for stage, depth in enumerate(self.depths):
            size = [-(-side // 2) if stage else side for side in x.shape[1:3]]
            how = self._how(stage, (size[0], size[1]), compact, x.device)
            for turn in range(depth):
                x = self._block(index, x, how[turn % len(how)])
                index += 1
            if stage in self.out_indices:
                norm = getattr(self, f'norm{stage}', None)
                outs.append(norm(x) if norm is not None else x)
        return outs

    def _block(self, index: int, x: Tensor, how: Any) -> Tensor:
        block = self.blocks[index]
        if self.with_cp and x.requires_grad:
            return checkpoint(block, x, how, use_reentrant=False)
        return block(x, how)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise decay, and the number of depths.

        What merges patches, and the relative-position MLP, belong to their
        block.
        """
        depths = self.num_layers + 2
        name = param_name.removeprefix(prefix)
        if name == param_name and prefix or not name:
            return depths - 1, depths
        if name.startswith(('patch_embed.', 'pos_embed', 'mask_token')):
            return 0, depths
        if name.startswith('blocks.'):
            return int(name.split('.')[1]) + 1, depths
        return depths - 1, depths

    @staticmethod
    def to_own_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :func:`mmeffmae.checkpoint.um_mae_layout.encoder_from_official`.

        A classifier has ``fc_norm`` after its mean and no norm of the last map,
        which starts anew.
        """
        own = encoder_from_official(tensors)
        if 'fc_norm.weight' in own and 'norm3.weight' not in own:
            own['norm3.weight'] = torch.ones_like(own['fc_norm.weight'])
            own['norm3.bias'] = torch.zeros_like(own['fc_norm.weight'])
        return own

    def _prepare_loaded(self, state_dict: dict, prefix: str, *args) -> None:
        own = [key for key in state_dict if key.startswith(prefix)]
        tensors = {key[len(prefix):]: state_dict.pop(key) for key in own}
        for key, value in self.to_own_names(tensors).items():
            state_dict[prefix + key] = value

    def optional_keys(self) -> dict[str, list[str]]:
        """Keys that output forms and pre-training add, for load reports."""
        missing = ['fc_norm.*', *(f'norm{stage}.*' for stage in range(3))]
        unexpected = ['fc.*', 'head.*', 'fc_norm.*', 'norm?.*']
        (unexpected if self.mask_token is None else missing).append('mask_token')
        return dict(missing=missing, unexpected=unexpected)

    def exportable_as(self) -> dict[str, Any]:
        """The config under which an export loads: this class, see
        :mod:`mmeffmae.checkpoint.export`.
        """
        height, width = self.img_size
        config: dict[str, Any] = dict(
            type=f'mmeffmae.{type(self).__name__}',
            arch=self.arch if isinstance(self.arch, str) else dict(self.arch),
            img_size=height if height == width else [height, width],
            patch_size=self.patch_size)
        if self.in_channels != 3:
            config['in_channels'] = self.in_channels
        return config

    def export_state_dict(self) -> dict[str, Tensor]:
        """The weights without those that only pre-training has."""
        state_dict = self.state_dict()
        state_dict.pop('mask_token', None)
        return state_dict
