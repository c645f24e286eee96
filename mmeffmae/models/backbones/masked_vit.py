# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections.abc import Mapping, Sequence
from typing import Optional, Union

import torch
from mmpretrain.models import VisionTransformer
from mmpretrain.models.utils.attention import MultiheadAttention
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmeffmae.checkpoint.layouts import to_own_names
from mmeffmae.masking import MaskPlan, gather_table
from mmeffmae.registry import MODELS

from ..layers import (
    AttentionShell,
    TokenDrop,
    TokenLayout,
    attention_groups,
    check_depth,
    check_heads,
    divide_image,
    drop_placement,
    expand_attention,
    resize_positions,
    sincos_positions,
    tie_attention,
)


def _arch(width: int, depth: int, heads: int) -> dict:
    return dict(
        embed_dims=width,
        num_layers=depth,
        num_heads=heads,
        feedforward_channels=4 * width)


@MODELS.register_module()
class MaskedViT(VisionTransformer):
    """Vision transformer that encodes visible patches only.

    With a plan it is the encoder of MAE (https://arxiv.org/abs/2111.06377,
    §3); without one it is mmpretrain's ``VisionTransformer`` with the same
    parameter names, at any input size.

    Args:
        arch (str | dict): ``'t'``, ``'s'``, ``'b'``, ``'l'``, ``'h'`` or
            their long names, in the sizes of DeiT and MAE (mmpretrain's own
            ``'small'`` is another model), or a dict with ``embed_dims``,
            ``num_layers``, ``num_heads`` and ``feedforward_channels``.
        img_size (int | tuple): Height and width that the position table is
            made for, in pixels.
        patch_size (int): Side of a patch, in pixels.
        in_channels (int): Channels of the images.
        drop_path_rate (float): Stochastic depth of the last layer; it grows
            linearly from 0.
        out_type (str): ``'featmap'``, ``'cls_token'``, ``'avg_featmap'`` or
            ``'raw'``: the form of the outputs without a plan.
        stem (dict, optional): Patch embedding part. Defaults to
            ``PatchifyStem``.
        ffn (dict | list, optional): Feed-forward part of all layers, called
            as ``ffn(x, identity=, layout=)`` with a :class:`TokenLayout`; or a
            list that is repeated over the layers, such as ``[dict(...), None]``
            for every second one. None is mmcv's ``FFN``, the default.
        share_attn (int, optional): Groups of consecutive layers that share
            the attention projections. Defaults to none shared.
        with_cp (bool): Recompute activations in the backward pass.
        drop_ratio (float): Share of the patch tokens that leaves after each
            of ``drop_indices``, the most redundant ones (PCAE), in training
            and testing. Settable at any time. No feature maps then, and no
            plan. Defaults to 0, none.
        drop_indices (Sequence[int], optional): Layers, from 0. Defaults to
            the inner borders of four equal shares: 2, 5 and 8 of 12.
        drop_metric (str): ``'redundancy'``, or ``'random'`` as a control.
        init_cfg (dict, optional): With type ``Pretrained`` no weight is
            initialised beside the loaded ones.
        **kwargs: Of ``mmpretrain.models.VisionTransformer``.

    Raises:
        ValueError: If the patch size does not divide the image size, tokens
            cannot be dropped as asked, or a part would ignore a setting.

    Example:
        >>> vit = MaskedViT('t', img_size=32, patch_size=8)
        >>> plan = RandomMasking(0.75)(torch.rand(2, 4, 4))
        >>> vit(torch.rand(2, 3, 32, 32), plan).shape
        torch.Size([2, 5, 192])
        >>> vit(torch.rand(2, 3, 64, 48))[0].shape
        torch.Size([2, 192, 8, 6])
    """

    arch_zoo = {
        **dict.fromkeys(['t', 'tiny'], _arch(192, 12, 3)),
        **dict.fromkeys(['s', 'small'], _arch(384, 12, 6)),
        **dict.fromkeys(['b', 'base'], _arch(768, 12, 12)),
        **dict.fromkeys(['l', 'large'], _arch(1024, 24, 16)),
        **dict.fromkeys(['h', 'huge'], _arch(1280, 32, 16)),
    }

    def __init__(
        self,
        arch: Union[str, dict] = 'b',
        img_size: Union[int, tuple[int, int]] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        drop_path_rate: float = 0.,
        out_type: str = 'featmap',
        stem: Optional[dict] = None,
        ffn: Union[dict, list[Optional[dict]], None] = None,
        share_attn: Optional[int] = None,
        with_cp: bool = False,
        drop_ratio: float = 0.,
        drop_indices: Optional[Sequence[int]] = None,
        drop_metric: str = 'redundancy',
        init_cfg: Optional[dict] = None,
        **kwargs,
    ) -> None:
        self.patch_size = patch_size
        _refuse_ignored(kwargs, ffn)
        settings = self._settings(arch)
        check_heads(settings['embed_dims'], settings['num_heads'], 'MaskedViT')
        check_depth(settings['num_layers'], 'num_layers', 'MaskedViT')
        # Floats, since numpy scalars break the graph of torch.compile.
        last = max(settings['num_layers'] - 1, 1)
        rates = [drop_path_rate * i / last for i in range(settings['num_layers'])]
        super().__init__(
            settings,
            img_size=img_size,
            patch_size=patch_size,
            in_channels=in_channels,
            out_type=out_type,
            layer_cfgs=[dict(drop_path_rate=rate) for rate in rates],
            init_cfg=init_cfg,
            **kwargs)
        self.with_cp = with_cp
        self.in_channels = in_channels
        self.patch_grid(self.img_size)
        self.patch_embed = MODELS.build(
            dict(
                stem or dict(type='mmeffmae.PatchifyStem'),
                patch_size=patch_size,
                in_channels=in_channels,
                input_size=self.img_size,
                embed_dims=self.embed_dims))
        parts = ffn if isinstance(ffn, (list, tuple)) else [ffn]
        parts = [parts[i % len(parts)] for i in range(self.num_layers)]
        self.custom_ffn = [part is not None for part in parts]
        for layer, part, rate in zip(self.layers, parts, rates):
            if part is not None:
                layer.ffn = MODELS.build(
                    dict(
                        part,
                        embed_dims=self.embed_dims,
                        feedforward_channels=settings['feedforward_channels'],
                        drop_path_rate=rate))
        self._share_attention(share_attn)
        self._register_load_state_dict_pre_hook(self._fit_attention)
        if self.frozen_stages > 0:  # parts that were not there before
            self._freeze_stages()
        self.mask_token: Optional[nn.Parameter] = None
        if drop_indices is None:
            num_drops = min(3, max(1, self.num_layers - 1))
            drop_indices = drop_placement(self.num_layers, num_drops, 'inner')
        self.token_drop = TokenDrop(
            drop_indices, self.num_layers, drop_ratio, drop_metric)
        self._check_out_type(drop_ratio)

    @classmethod
    def _settings(cls, arch: Union[str, dict]) -> dict:
        if isinstance(arch, dict):
            return dict(arch)
        if arch.lower() not in cls.arch_zoo:
            raise ValueError(
                f'arch {arch!r} is unknown (MaskedViT): choose from '
                f'{sorted(cls.arch_zoo)}, or give a dict')
        return cls.arch_zoo[arch.lower()]

    def _share_attention(self, num_groups: Optional[int]) -> None:
        self.attn_group: Optional[list[int]] = None
        if num_groups is None:
            return
        self.attn_group = attention_groups(self.num_layers, num_groups)
        # Each shared module is registered once; the layers get it as an
        # argument, so optimizers, checkpoints and averages see it once.
        self.shared_attn = nn.ModuleList(
            MultiheadAttention(
                self.embed_dims,
                self.arch_settings['num_heads'],
                attn_drop=self.layers[0].attn.attn_drop,
                proj_drop=self.layers[0].attn.proj_drop.p,
                qkv_bias=self.layers[0].attn.qkv.bias is not None)
            for _ in range(num_groups))
        for layer in self.layers:
            layer.attn = AttentionShell(layer.attn)

    def _freeze_stages(self) -> None:
        super()._freeze_stages()
        for group, core in enumerate(getattr(self, 'shared_attn', ())):
            users = self.get_layer_depths(f'shared_attn.{group}.')[0]
            core.requires_grad_(users[-1] > self.frozen_stages)

    def init_weights(self) -> None:
        """MAE's initialisation, unless ``init_cfg`` loads weights."""
        super().init_weights()
        if isinstance(self.init_cfg, dict) and \
                self.init_cfg['type'] == 'Pretrained':
            return
        table = sincos_positions(
            self.patch_resolution, self.embed_dims, self.with_cls_token)
        self.pos_embed.data.copy_(table)
        if hasattr(self.patch_embed, 'projection'):
            nn.init.xavier_uniform_(self.patch_embed.projection.weight.data.flatten(1))
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=.02)

    def train(self, mode: bool = True) -> 'MaskedViT':
        """As torch's, which returns the module; mmpretrain's returns None."""
        super().train(mode)
        return self

    @property
    def drop_ratio(self) -> float:
        """Share of the patch tokens that leaves after each drop.

        Raises:
            ValueError: On setting, if the ratio is out of range or the
                outputs are feature maps.
        """
        return self.token_drop.ratio

    @drop_ratio.setter
    def drop_ratio(self, ratio: float) -> None:
        self._check_out_type(ratio)
        self.token_drop = self.token_drop.with_ratio(ratio)

    def _check_out_type(self, ratio: float) -> None:
        if ratio and self.out_type == 'featmap':
            raise ValueError(
                f'drop_ratio {ratio} with out_type \'featmap\' (MaskedViT): dropped '
                'tokens leave holes in the map, so use drop_ratio 0 for dense '
                'tasks, the weights are the same, or another out_type')

    def add_mask_token(self) -> None:
        """Create what stands for hidden patches; pre-training alone has it."""
        token = torch.empty(1, 1, self.embed_dims)
        self.mask_token = nn.Parameter(nn.init.normal_(token, std=.02))

    def freeze_pos_embed(self) -> None:
        """Keep the position table fixed, as pre-training does."""
        self.pos_embed.requires_grad_(False)

    def patch_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches of an image of ``(H, W)`` pixels.

        Raises:
            ValueError: If the patch size does not divide both.
        """
        return divide_image(size, self.patch_size, 'MaskedViT')

    def check_plan(self, plan: MaskPlan) -> None:
        """Say early what this encoder cannot take.

        Raises:
            ValueError: If the plan has hidden slots and there is no token
                for them, tokens are dropped, or a norm would get no gradient.
        """
        if self.out_type == 'avg_featmap':
            raise ValueError(
                "out_type 'avg_featmap' with a mask plan (MaskedViT): its norm of the "
                "mean is not used then, which distributed training refuses; use "
                "'featmap'")
        if self.drop_ratio:
            raise ValueError(
                f'drop_ratio {self.drop_ratio} with a mask plan (MaskedViT): a '
                'pre-trained encoder keeps all visible tokens, so set drop_ratio '
                '0; PCAE\'s teacher drops by its own keep_ratio')
        if plan.hidden is not None and self.mask_token is None:
            raise ValueError(
                'the plan hides visible patches behind a learnable token, and '
                'this MaskedViT has none: call add_mask_token(), as '
                'MaskedAutoencoder does for a masking that hides')

    def forward(
        self, images: Tensor, plan: Optional[MaskPlan] = None
    ) -> Union[Tensor, tuple[Tensor, ...]]:
        """Encode visible patches, or whole images without a plan.

        Args:
            images (Tensor): ``(B, C, H, W)``.
            plan (MaskPlan, optional): K views of each image.

        Returns:
            Tensor | tuple[Tensor]: With a plan ``(B·K, [1 +] V, C)``, after
            the final norm; without one an output of ``out_type`` for each of
            ``out_indices``.
        """
        if plan is not None:
            return self._forward_visible(images, plan)
        tokens, grid = self.patch_embed(images)
        tokens = self._add_positions(tokens, self._positions(grid))
        return self._forward_layers(
            tokens, TokenLayout(tuple(grid), self.num_extra_tokens))

    def _forward_visible(self, images: Tensor, plan: MaskPlan) -> Tensor:
        table = self._positions(plan.grid)
        extra = self.num_extra_tokens
        positions = gather_table(table[0, extra:], plan.ids_keep)
        if extra:
            first = table[:, :extra].expand(positions.size(0), -1, -1)
            positions = torch.cat([first, positions], dim=1)
        tokens = self.patch_embed.embed_visible(images, plan)
        if plan.hidden is not None and self.mask_token is not None:
            hidden = plan.hidden.flatten(0, 1).unsqueeze(-1)
            tokens = torch.where(hidden, self.mask_token.to(tokens.dtype), tokens)
        tokens = self._add_positions(tokens, positions)
        layout = TokenLayout(plan.grid, extra, plan.ids_keep.flatten(0, 1))
        for index in range(self.num_layers):
            tokens = self._forward_layer(index, tokens, layout)
        return self.ln1(tokens) if self.final_norm else tokens

    def forward_retained(
        self, images: Tensor, plan: MaskPlan
    ) -> tuple[Tensor, Tensor]:
        """Encode patches without class token, dropping tokens on the way.

        What PCAE's teacher does.

        Args:
            images (Tensor): ``(B, C, H, W)``.
            plan (MaskPlan): What is encoded, as its visible patches.

        Returns:
            tuple[Tensor, Tensor]: The retained tokens ``(B·K, R, C)``, after
            the final norm, and their patches ``(B·K, R)``, int64.
        """
        table = self._positions(plan.grid)[0, self.num_extra_tokens:]
        x = self.patch_embed.embed_visible(images, plan)
        x = x + gather_table(table, plan.ids_keep)
        x = self.pre_norm(self.drop_after_pos(x))
        layout = TokenLayout(plan.grid, 0, plan.ids_keep.flatten(0, 1))
        for index in range(self.num_layers):
            x, layout = self._layer_and_drop(index, x, layout)
        return self.ln1(x) if self.final_norm else x, layout.ids

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        return resize_positions(
            self.pos_embed, self.patch_resolution, grid, self.num_extra_tokens,
            self.interpolate_mode)

    def _add_positions(self, tokens: Tensor, positions: Tensor) -> Tensor:
        if self.cls_token is not None:
            cls_token = self.cls_token.expand(tokens.size(0), -1, -1)
            tokens = torch.cat([cls_token, tokens], dim=1)
        return self.pre_norm(self.drop_after_pos(tokens + positions))

    def _forward_layers(self, x: Tensor, layout: TokenLayout) -> tuple[Tensor, ...]:
        outs = []
        for index in range(self.num_layers):
            x, layout = self._layer_and_drop(index, x, layout)
            if index == self.num_layers - 1 and self.final_norm:
                x = self.ln1(x)
            if index in self.out_indices:
                outs.append(self._format_output(x, layout.grid))
        return tuple(outs)

    def _layer_and_drop(
        self, index: int, x: Tensor, layout: TokenLayout
    ) -> tuple[Tensor, TokenLayout]:
        x = self._forward_layer(index, x, layout)
        return self.token_drop(index, x, layout)

    def _forward_layer(self, index: int, x: Tensor, layout: TokenLayout) -> Tensor:
        if self.with_cp and x.requires_grad:
            return checkpoint(
                self._layer, index, x, layout, use_reentrant=False)
        return self._layer(index, x, layout)

    def _layer(self, index: int, x: Tensor, layout: TokenLayout) -> Tensor:
        layer = self.layers[index]
        x = x + self._attend(index, layer.ln1(x), layout)
        if self.custom_ffn[index]:
            return layer.ffn(layer.ln2(x), identity=x, layout=layout)
        return layer.ffn(layer.ln2(x), identity=x)

    def _attend(self, index: int, x: Tensor, layout: TokenLayout) -> Tensor:
        layer = self.layers[index]
        if self.attn_group is None:
            return layer.attn(x)
        return layer.attn(x, self.shared_attn[self.attn_group[index]])

    def get_layer_depths(
        self, param_name: str, prefix: str = ''
    ) -> tuple[list[int], int]:
        """Depths of all layers that use a parameter, and their number.

        Only shared attention is used by several. See :meth:`get_layer_depth`.
        """
        name = f'{prefix}shared_attn.'
        if self.attn_group is None or not param_name.startswith(name):
            depth, number = super().get_layer_depth(param_name, prefix)
            return [depth], number
        group = int(param_name[len(name):].split('.')[0])
        users = [i + 1 for i, g in enumerate(self.attn_group) if g == group]
        return users, self.num_layers + 2

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise decay, and the number of depths.

        Shared attention counts as the middle layer of its group here;
        ``mmeffmae.LayerDecayOptimWrapperConstructor`` takes the mean of their
        rates instead.
        """
        depths, number = self.get_layer_depths(param_name, prefix)
        return depths[len(depths) // 2], number

    def exportable_as(self) -> dict:
        """Config of the stock backbone, see ``mmeffmae.checkpoint.export``.

        Raises:
            ValueError: A part has no stock equivalent.
        """
        from mmeffmae.checkpoint.export import plain_vit_config
        parts = [] if hasattr(self.patch_embed, 'projection') else [self.patch_embed]
        parts += [layer.ffn for layer, custom in zip(self.layers, self.custom_ffn)
                  if custom][:1]
        if parts:
            names = ' and '.join(type(part).__name__ for part in parts)
            raise ValueError(
                f'{names} have no counterpart there; use mmeffmae.MaskedViT as '
                'the backbone, which loads the checkpoint as it is '
                "(init_cfg=dict(type='Pretrained', checkpoint=..., "
                "prefix='backbone.'))")
        return plain_vit_config(self)

    def export_state_dict(self) -> dict[str, Tensor]:
        """Weights under stock names: every layer has its own attention."""
        return expand_attention(self.state_dict(), self.num_layers)

    def _fit_attention(self, state_dict: dict, prefix: str, *args) -> None:
        """Load shared attention as private and the reverse."""
        fitted = expand_attention(state_dict, self.num_layers, prefix)
        if self.attn_group is not None:
            fitted = tie_attention(fitted, self.attn_group, prefix)
        if fitted.keys() != state_dict.keys():
            state_dict.clear()
            state_dict.update(fitted)

    @staticmethod
    def to_own_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :func:`mmeffmae.checkpoint.layouts.to_own_names`."""
        return to_own_names(tensors)

    def _take_foreign_names(self, state_dict: dict, prefix: str) -> None:
        own = [key for key in state_dict if key.startswith(prefix)]
        tensors = {key[len(prefix):]: state_dict.pop(key) for key in own}
        for key, value in self.to_own_names(tensors).items():
            state_dict[prefix + key] = value

    def _fit_channels(self, state_dict: dict, prefix: str) -> None:
        """Take a patch embedding of RGB for images of other bands.

        Which band is which colour is unknown, so every band gets the same
        weights. An image whose bands are all equal gives what the RGB encoder
        gives for it in grey.
        """
        key = prefix + 'patch_embed.projection.weight'
        weight = state_dict.get(key)
        if weight is not None and weight.shape[1] == 3 != self.in_channels:
            grey = weight.sum(1, keepdim=True) / self.in_channels
            state_dict[key] = grey.repeat(1, self.in_channels, 1, 1)

    def _prepare_pos_embed(self, state_dict, prefix, *args, **kwargs) -> None:
        # The first hook of loading, so names are put right here.
        self._take_foreign_names(state_dict, prefix)
        self._fit_channels(state_dict, prefix)
        table = state_dict.get(prefix + 'pos_embed')
        if table is not None and table.shape[1] != self.pos_embed.shape[1]:
            side = round((table.shape[1] - self.num_extra_tokens)**.5)
            # One extra row may be the class token of a file made with one.
            if side**2 not in (table.shape[1] - 1, table.shape[1]):
                raise ValueError(
                    f'{prefix}pos_embed of {tuple(table.shape)} is not on a square '
                    'grid, so its rows and columns are unknown and it cannot be '
                    f'resized to {self.patch_resolution} (MaskedViT): export the '
                    'checkpoint with tools/export_backbone.py first')
        super()._prepare_pos_embed(state_dict, prefix, *args, **kwargs)


def _refuse_ignored(settings: dict, ffn: Union[dict, list, None]) -> None:
    """Settings of mmpretrain's class whose place other parts have here."""
    mends = dict(layer_cfgs='set drop_path_rate and ffn in its place',
                 patch_cfg='set stem in its place')
    parts = ffn if isinstance(ffn, (list, tuple)) else [ffn]
    if any(part is not None for part in parts):
        mends.update(drop_rate='the ffn has no dropout, so leave out one of them',
                     layer_scale_init_value='the ffn has no layer scale, so leave out '
                     'one of them')
    for name, mend in mends.items():
        if settings.get(name):
            raise ValueError(
                f'{name}={settings[name]!r} would be ignored, at least in part '
                f'(MaskedViT): {mend}')
