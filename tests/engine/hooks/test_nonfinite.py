# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""A non-finite loss stops the run, and nothing is saved after it."""
import pytest
import torch
from mmengine.hooks import Hook

from mmeffmae.engine.hooks import NonFiniteGuardHook


@pytest.mark.parametrize('iteration, interval, reason', [
    # Seen at the interval, and before the checkpoint of the epoch's end.
    (9, 2, 'loss is not finite at iteration 9, rank 0 .*loss_recon=nan'),
    (8, 1000, 'loss is not finite at iteration 8, rank 0 .*loss_recon=nan'),
    # The loss of the last iteration is finite, the weights after it are not.
    (13, 1000, 'weights are not finite after iteration 12 .*decoder_pred'),
])
def test_run_stops_before_it_saves(iteration, interval, reason, tiny_cfg,
                                   build_runner, tmp_path):
    cfg = tiny_cfg(dict(
        default_hooks=dict(nonfinite=dict(interval=interval))))
    runner = build_runner(cfg)
    weight = runner.model.neck.decoder_pred.weight

    class Poison(Hook):

        def before_train_iter(self, runner, *args, **kwargs) -> None:
            if runner.iter + 1 == iteration:
                weight.data.fill_(float('nan'))

        def after_train_iter(self, runner, *args, **kwargs) -> None:
            if runner.iter + 2 == iteration == 13:
                weight.data.fill_(float('inf'))

    runner.register_hook(Poison())
    with pytest.raises(FloatingPointError, match=reason) as error:
        runner.train()
    assert 'epoch_1.pth. Resume from it with a lower' in str(error.value)
    assert [p.name for p in tmp_path.glob('run/*.pth')] == ['epoch_1.pth']


def test_finite_losses_pass_and_other_scalars_may_be_nan(tmp_path):
    class FakeRunner:
        iter, rank, work_dir = 0, 0, str(tmp_path)

    hook = NonFiniteGuardHook(interval=1)
    outputs = dict(loss=torch.tensor(1.), loss_recon=torch.tensor(2.),
                   accuracy=torch.tensor(float('nan')))
    hook.after_train_iter(FakeRunner, 0, outputs=outputs)
    assert hook._pending == []
    outputs['loss_recon'] = torch.tensor(float('inf'))
    with pytest.raises(FloatingPointError, match='loss=1.0, loss_recon=inf'):
        hook.after_train_iter(FakeRunner, 0, outputs=outputs)
