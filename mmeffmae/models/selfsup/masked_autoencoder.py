# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from typing import Optional, Union

import torch
from mmengine.structures import BaseDataElement
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import Tensor, nn

from mmeffmae.masking import MaskPlan
from mmeffmae.registry import MODELS, TASK_UTILS

from ..layers import INIT_CFG

#: mmpretrain's preprocessor, and the same one that waits for no GPU.
_STOCK_PREPROCESSOR = 'mmpretrain.SelfSupDataPreprocessor'
_PREPROCESSOR = 'mmeffmae.SelfSupDataPreprocessor'


class MaskedPretrainer(BaseSelfSupervisor):
    """Masking, encoder, decoder and head, wired up to the predictions.

    Sizes that the encoder knows (grid, width, patch size, channels) need not
    be repeated for the neck and the head.

    Args:
        backbone (dict): The encoder.
        neck (dict): The decoder.
        head (dict): Target and loss.
        masking (dict): The masking strategy.
        data_preprocessor (dict, optional): Defaults to
            :class:`mmeffmae.models.SelfSupDataPreprocessor`, which also takes
            the place of mmpretrain's: it gives the same images.
        init_cfg (list[dict], optional): Defaults to MAE's initialisation.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        masking: dict,
        data_preprocessor: Optional[Union[dict, nn.Module]] = None,
        init_cfg: Optional[list[dict]] = None,
    ) -> None:
        encoder = MODELS.build(backbone)
        neck = {**self.neck_sizes(encoder), **neck}
        head = {**self.head_sizes(encoder), **head}
        if not isinstance(data_preprocessor, nn.Module):
            # Prefixed, so that it builds under any default scope.
            settings = {'type': _PREPROCESSOR, **(data_preprocessor or {})}
            if settings['type'] == _STOCK_PREPROCESSOR:
                settings['type'] = _PREPROCESSOR
            data_preprocessor = MODELS.build(settings)
        super().__init__(
            backbone=encoder,
            neck=MODELS.build(neck),
            head=MODELS.build(head),
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg or INIT_CFG)
        self.masking = TASK_UTILS.build(masking)
        if getattr(self.masking, 'hides', False):
            self.backbone.add_mask_token()
        self.backbone.freeze_pos_embed()

    @staticmethod
    def neck_sizes(encoder: nn.Module) -> dict:
        """Settings of the neck that follow from the encoder."""
        return dict(
            grid=encoder.patch_resolution,
            embed_dim=encoder.embed_dims,
            in_chans=encoder.in_channels,
            patch_size=encoder.patch_size)

    @staticmethod
    def head_sizes(encoder: nn.Module) -> dict:
        """Settings of the head that follow from the encoder."""
        return dict(
            in_channels=encoder.in_channels, patch_size=encoder.patch_size)

    def draw_plan(self, images: Tensor) -> MaskPlan:
        """Draw the masks of a batch from torch's generator of its device.

        Args:
            images (Tensor): ``(B, C, H, W)``.

        Raises:
            ValueError: If the patch size does not divide the images, or the
                masking does not fit their grid.
        """
        return self.masking(self._noise(images))

    def sampled_plan(
        self, images: Tensor, data_samples: Optional[list[BaseDataElement]]
    ) -> MaskPlan:
        """The plan of the masks that the data pipeline drew.

        Args:
            images (Tensor): ``(B, C, H, W)``.
            data_samples (list): With a field ``mask`` of ``(K, rows, cols)``.

        Raises:
            ValueError: If there are no masks, or not of this grid.
        """
        masks = [getattr(sample, 'mask', None) for sample in data_samples or [None]]
        if any(mask is None for mask in masks):
            raise ValueError(
                'the data samples have no field mask '
                f'({type(self.masking).__name__} with from_samples=True): add '
                "dict(type='mmeffmae.UniformMaskGenerator', grid=...) to "
                'train_pipeline before PackInputs, or set from_samples=False')
        stacked = torch.stack(masks).to(images.device)
        return self.masking.plan_of(stacked, self._noise(images))

    def _noise(self, images: Tensor) -> Tensor:
        grid = self.backbone.patch_grid(tuple(images.shape[-2:]))
        return torch.rand(images.size(0), *grid, device=images.device)

    def forward(
        self,
        inputs: Tensor,
        data_samples: Optional[list[BaseDataElement]] = None,
        mode: str = 'tensor',
        plan: Optional[MaskPlan] = None,
    ) -> Union[Tensor, tuple[Tensor, ...], dict[str, Tensor]]:
        """As ``BaseSelfSupervisor``, with a plan for ``mode='loss'``."""
        if mode == 'loss':
            return self.loss(inputs, data_samples, plan)
        return super().forward(inputs, data_samples, mode)

    def predict(self, inputs: Tensor, plan: MaskPlan) -> Tensor:
        """Predictions ``(B·K, P, D)`` for images ``(B, C, H, W)``."""
        self.backbone.check_plan(plan)
        return self.neck(self.backbone(inputs, plan), plan)


@MODELS.register_module()
class MaskedAutoencoder(MaskedPretrainer):
    """A pre-trainer that predicts pixels of the images it is given.

    Every method but those with a teacher is this class with other parts.
    """

    def loss(
        self,
        inputs: Tensor,
        data_samples: Optional[list[BaseDataElement]] = None,
        plan: Optional[MaskPlan] = None,
    ) -> dict[str, Tensor]:
        """The terms of the objective.

        Args:
            inputs (Tensor): ``(B, C, H, W)``, preprocessed.
            data_samples (list, optional): Hold the masks, if the masking
                takes them from there.
            plan (MaskPlan, optional): Replaces the drawn one.

        Returns:
            dict[str, Tensor]: The head's terms.

        Raises:
            ValueError: If the data samples lack the masks.
        """
        if plan is None and getattr(self.masking, 'from_samples', False):
            plan = self.sampled_plan(inputs, data_samples)
        return self.objective(inputs, plan or self.draw_plan(inputs))

    def objective(self, inputs: Tensor, plan: MaskPlan) -> dict[str, Tensor]:
        """The terms under given masks, as :meth:`loss` returns them.

        Draws nothing itself, so it is what is worth compiling.
        """
        return self.head.loss(self.predict(inputs, plan), inputs, plan)

    @torch.no_grad()
    def reconstruct(
        self, inputs: Tensor, plan: Optional[MaskPlan] = None
    ) -> tuple[Tensor, MaskPlan]:
        """Images with their masked patches predicted.

        Args:
            inputs (Tensor): ``(B, C, H, W)``, preprocessed.
            plan (MaskPlan, optional): Replaces the drawn one.

        Returns:
            tuple[Tensor, MaskPlan]: ``(B, K, C, H, W)`` in the space of the
            inputs, and the plan.
        """
        plan = plan or self.draw_plan(inputs)
        return self.head.paint(self.predict(inputs, plan), inputs, plan), plan
