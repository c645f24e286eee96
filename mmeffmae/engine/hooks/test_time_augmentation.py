# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mmeffmae.compat import unwrap
from mmeffmae.registry import HOOKS


@HOOKS.register_module()
class TTAHook(Hook):
    """Wrap the model for test-time augmentation before a test.

    As mmengine's ``PrepareTTAHook``, which also wraps the model of a
    distributed run: mmseg's ``SegTTAModel`` then misses attributes of its
    segmentor. Testing exchanges no gradients, so the distributed wrapper goes.

    Args:
        tta_cfg (dict): Config of a ``BaseTTAModel``, without ``module``.
    """

    def __init__(self, tta_cfg: dict) -> None:
        self.tta_cfg = tta_cfg

    def before_test(self, runner: Runner) -> None:
        """Wrap the model, whose weights are loaded by now."""
        runner.model = MODELS.build(
            dict(self.tta_cfg, module=unwrap(runner.model)))
