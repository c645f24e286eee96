# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from mmeffmae.engine.batch_skip import fast_forward, find_sampler, skip_batches
from mmeffmae.randomness import mix_key, seed_all
from mmeffmae.registry import HOOKS


@HOOKS.register_module()
class KeyedRandomnessHook(Hook):
    """Make a resumed run equal the unbroken one at any iteration.

    Every training iteration seeds python, numpy and torch from (seed, rank,
    iteration): ranks draw different masks, and no generator state needs to
    be stored. On resume in the middle of an epoch the data loader starts
    after the batches that were consumed. Samples get their keys from
    ``KeyedSampler`` and ``SeedSample``.

    Raises:
        ValueError: ``randomness.diff_rank_seed`` is on, or the run resumes
            in the middle of an epoch whose length has changed.
    """

    # The last to touch the generators before the model does.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._resumed = False
        self._saved_length: int | None = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Record what the position of the run is counted in."""
        loader = runner.train_dataloader
        checkpoint['meta'].update(
            iters_per_epoch=len(loader), world_size=runner.world_size,
            batch_size=loader.batch_sampler.batch_size)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember how long an epoch was when the checkpoint was written."""
        self._saved_length = checkpoint.get('meta', {}).get('iters_per_epoch')

    def before_train(self, runner: Runner) -> None:
        """Give the sampler the run's seed, which a resume may have set."""
        if runner._randomness_cfg.get('diff_rank_seed', False):
            raise ValueError(
                'randomness.diff_rank_seed=True (KeyedRandomnessHook): the '
                'hook gives every rank its own stream already, and samplers '
                'need one seed for all: set diff_rank_seed=False')
        sampler = find_sampler(runner.train_dataloader)
        if hasattr(sampler, 'seed'):
            sampler.seed = runner.seed
        self._resumed = runner.iter > 0

    def before_train_epoch(self, runner: Runner) -> None:
        """After a resume, skip what the broken run has consumed."""
        if not self._resumed:
            return
        self._resumed = False
        loop = runner.train_loop
        if isinstance(loop, EpochBasedTrainLoop):
            self._skip_in_epoch(runner, loop)
        elif isinstance(loop, IterBasedTrainLoop):
            fast_forward(loop)

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Seed the iteration."""
        seed_all(mix_key(runner.seed, runner.rank, runner.iter))

    def _skip_in_epoch(self, runner: Runner,
                       loop: EpochBasedTrainLoop) -> None:
        length = len(loop.dataloader)
        saved = self._saved_length or length
        offset = loop.iter - loop.epoch * saved
        if offset < 0:
            raise ValueError(
                f'the checkpoint says iteration {loop.iter} of epoch {loop.epoch + 1}, '
                f'which begins at {loop.epoch * saved} (KeyedRandomnessHook): an '
                'earlier version, or another hook, wrote it; take another, or --init '
                'FILE')
        if saved == length:
            if offset:
                skip_batches(loop.dataloader, offset)
            return
        change = (f'an epoch had {saved} iterations when the checkpoint was '
                  f'written and has {length} now (KeyedRandomnessHook)')
        if offset:
            raise ValueError(
                f'cannot resume {offset} iterations into epoch '
                f'{loop.epoch + 1}: {change}: use the same data set, batch '
                'size and number of processes, or resume from a checkpoint '
                'of an epoch\'s end')
        runner.logger.warning(
            f'{change}: the resumed run differs from an unbroken one')
