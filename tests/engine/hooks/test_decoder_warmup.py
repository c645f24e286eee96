# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
import pytest
import torch
from mmengine.hooks import Hook

from mmeffmae.engine.hooks import DecoderWarmupHook

#: Of 12 iterations, 2 an update: the encoder stays for the first 5.
SETTINGS = dict(
    custom_hooks=[dict(type='mmeffmae.DecoderWarmupHook', share=.4)],
    optim_wrapper=dict(accumulative_counts=2),
    default_hooks=dict(checkpoint=dict(by_epoch=False, interval=2, max_keep_ckpts=9)))


class Watch(Hook):
    """Whether encoder and decoder differ from the start after each iteration."""

    def before_train(self, runner):
        self.start = {k: v.clone() for k, v in runner.model.named_parameters()}
        self.moved = []

    def after_train_iter(self, runner, *args, **kwargs):
        changed = {name.split('.')[0] for name, value
                   in runner.model.named_parameters()
                   if not torch.equal(value, self.start[name])}
        self.moved.append(('backbone' in changed, 'neck' in changed))


def state(path):
    content = torch.load(path, weights_only=False)
    return [*content['state_dict'].values(), *(
        value for of in content['optimizer']['state'].values()
        for value in of.values())]


def test_encoder_waits_and_a_resumed_run_equals_the_unbroken(
        tiny_cfg, build_runner, tmp_path):
    runner = build_runner(tiny_cfg(SETTINGS))
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    # Updates follow every second iteration; that of the sixth is the first.
    assert watch.moved == [(i >= 5, i >= 1) for i in range(12)]
    for stopped in (2, 4):
        cfg = tiny_cfg(SETTINGS)
        cfg.work_dir = str(tmp_path / f'resumed{stopped}')
        cfg.resume, cfg.load_from = True, str(tmp_path / f'run/iter_{stopped}.pth')
        build_runner(cfg).train()
        pairs = zip(state(tmp_path / 'run/iter_12.pth'),
                    state(f'{cfg.work_dir}/iter_12.pth'), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_what_would_move_the_encoder_is_refused(tiny_cfg, build_runner):
    cfg = tiny_cfg(dict(custom_hooks=[
        dict(type='mmeffmae.DecoderWarmupHook'),
        dict(type='mmeffmae.DecorrelationHook')]))
    with pytest.raises(ValueError, match='DecorrelationHook.*leave one of them out'):
        build_runner(cfg).train()
    with pytest.raises(ValueError, match='share 1'):
        DecoderWarmupHook(share=1)
    assert DecoderWarmupHook().iterations(101) == 6
