# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from typing import Any, Optional

from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmeffmae.masking import MaskPlan
from mmeffmae.registry import MODELS

from .masked_autoencoder import MaskedPretrainer
from .momentum_teacher import MomentumTeacher


def teacher_plan(plan: MaskPlan) -> MaskPlan:
    """What the teacher encodes: the patches that no student sees.

    Args:
        plan (MaskPlan): K disjoint student views and, as the patches to
            predict, the complement of them all.

    Returns:
        MaskPlan: One view an image.

    Raises:
        ValueError: The views and the complement do not make the image.
    """
    seen, rest = plan.ids_keep.flatten(1), plan.ids_predict[:, 0]
    total = seen.size(1) + rest.size(1)
    if plan.chosen_per_part is not None or total != plan.num_patches:
        raise ValueError(
            f'{plan.num_views} views of {plan.ids_keep.size(-1)} patches and '
            f'{rest.size(1)} others do not make the {plan.num_patches} of the '
            f'grid {plan.grid}, so they leave the teacher no complement (PCAE): '
            'draw them with ComplementaryMasking')
    return MaskPlan(rest.unsqueeze(1), seen.unsqueeze(1), plan.grid)


@MODELS.register_module()
class PCAE(MaskedPretrainer):
    """Progressively compressed auto-encoder (PCAE, ICLR 2023,
    https://openreview.net/forum?id=8T4qmZbTkW7).

    A momentum teacher encodes the patches that the student does not see, and
    drops redundant ones on the way; the student's decoder predicts the
    teacher's features of the few that are left. One pass of the teacher
    serves all K views of ``ComplementaryMasking(num_parts=K)``; with more
    than one this is ours.

    ``TeacherHook``, in ``configs/_base_/default_runtime.py``, updates the
    teacher once an iteration; other training loops call
    :meth:`update_teacher`.

    Args:
        teacher (dict, optional): Of :class:`MomentumTeacher`: ``momentum``,
            ``end_momentum``, ``keep_ratio``, ``drop_indices`` and
            ``drop_metric``.
        **kwargs: ``backbone``, ``neck``, ``head``, ``masking``,
            ``data_preprocessor`` and ``init_cfg`` of
            :class:`MaskedAutoencoder`.
    """

    def __init__(self, teacher: Optional[dict] = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.teacher = MomentumTeacher(self.backbone, **(teacher or {}))
        self._register_load_state_dict_pre_hook(self._start_teacher)

    @staticmethod
    def neck_sizes(encoder: nn.Module) -> dict:
        """As for pixels, with predictions as wide as the encoder."""
        return dict(
            MaskedPretrainer.neck_sizes(encoder),
            predict_feature_dim=encoder.embed_dims)

    @staticmethod
    def head_sizes(encoder: nn.Module) -> dict:
        """None; the features bring theirs."""
        return {}

    def init_weights(self) -> None:
        """Initialise or load the student, and copy it to the teacher."""
        super().init_weights()
        self.teacher.copy_from(self.backbone)

    def _start_teacher(self, state_dict: dict, prefix: str, *args: Any) -> None:
        """From a checkpoint without a teacher, start it as the student."""
        if any(key.startswith(f'{prefix}teacher.') for key in state_dict):
            return
        student = f'{prefix}backbone.'
        for key in [key for key in state_dict if key.startswith(student)]:
            name = key.removeprefix(student)
            state_dict[f'{prefix}teacher.module.{name}'] = state_dict[key]
        state_dict[f'{prefix}teacher.steps'] = self.teacher.steps

    def update_teacher(self, progress: float) -> None:
        """Move the teacher towards the student, after an optimizer step.

        Args:
            progress (float): Share of the schedule that is done, which the
                momentum follows.
        """
        self.teacher.update_parameters(self.backbone, progress)

    def loss(
        self,
        inputs: Tensor,
        data_samples: Optional[list[BaseDataElement]] = None,
        plan: Optional[MaskPlan] = None,
    ) -> dict[str, Tensor]:
        """The terms of the objective.

        Args:
            inputs (Tensor): ``(B, C, H, W)``, preprocessed.
            data_samples (list, optional): Not used.
            plan (MaskPlan, optional): Replaces the drawn one.

        Returns:
            dict[str, Tensor]: The head's terms.

        Raises:
            ValueError: The plan leaves the teacher no complement.
        """
        return self.objective(inputs, plan or self.draw_plan(inputs))

    def objective(self, inputs: Tensor, plan: MaskPlan) -> dict[str, Tensor]:
        """The terms under given masks, as :meth:`loss` returns them."""
        features, ids = self.teacher(inputs, teacher_plan(plan))
        retained = ids.unsqueeze(1).expand(-1, plan.num_views, -1)
        plan = plan.with_predict(retained)
        return self.head.loss(self.predict(inputs, plan), features, plan)
