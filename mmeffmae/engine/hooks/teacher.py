# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmeffmae.compat import unwrap
from mmeffmae.registry import HOOKS

#: More of the initial weights than this at the end is warned about.
LARGEST_SHARE = 0.05


@HOOKS.register_module()
class TeacherHook(Hook):
    """Update a model's momentum teacher after every iteration.

    Does nothing for models without ``update_teacher``. As published, an
    update follows each iteration over data: with ``accumulative_counts`` n
    there are n of them for an optimizer step, so use the momentum to the
    power 1/n for the same horizon in steps. The schedule of the momentum
    ends with the run.
    """

    # After the optimizer's step, before the hooks that save.
    priority = 'NORMAL'

    def before_train(self, runner: Runner) -> None:
        """Warn of a teacher that the schedule leaves near its start."""
        model = unwrap(runner.model)
        if not hasattr(model, 'update_teacher') or not runner.max_iters:
            return
        share = model.teacher.initial_share(runner.max_iters)
        if share > LARGEST_SHARE:
            runner.logger.warning(
                f'{100 * share:.0f} % of the initial weights will still be in the '
                f'teacher after {runner.max_iters} iterations at momentum '
                f'{model.teacher.momentum} (TeacherHook): lower '
                'model.teacher.momentum, or train longer')

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Update the teacher."""
        model = unwrap(runner.model)
        if hasattr(model, 'update_teacher'):
            model.update_teacher(min(1., runner.iter / max(1, runner.max_iters)))
