# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""The training scripts as a user starts them, in processes of their own."""
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from mmengine.runner import find_latest_checkpoint

from mmeffmae.masking import MaskPlan
from mmeffmae.registry import MODELS

ROOT = Path(__file__).parents[2]


def environment(*folders: Path) -> dict[str, str]:
    path = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ['PATH']])
    return dict(os.environ, OMP_NUM_THREADS='1', PATH=path,
                PYTHONPATH=os.pathsep.join(map(str, (ROOT, *folders))))


def finish(process: subprocess.Popen) -> str:
    """Wait, and leave no process behind."""
    try:
        return process.communicate(timeout=400)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return 'timeout: ' + process.communicate()[0]


def states(checkpoint: Path) -> list[torch.Tensor]:
    content = torch.load(checkpoint, weights_only=False)
    optimizer = content['optimizer']['state'].values()
    return [*content['state_dict'].values(),
            *(value for state in optimizer for value in state.values())]


def test_sigterm_to_the_process_group_and_resume(tiny_cfg, build_runner,
                                                 tmp_path):
    """Workers, too, get the signal of a job manager; nothing is lost."""
    cfg = tiny_cfg(dict(
        train_cfg=dict(max_epochs=12),
        train_dataloader=dict(num_workers=2, persistent_workers=True),
        default_hooks=dict(logger=dict(interval=1))))
    config = tmp_path / 'tiny.py'
    cfg.dump(config)
    process = subprocess.Popen(
        [sys.executable, ROOT / 'tools/train.py', config, '--resume'],
        env=environment(), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True)
    log = ''
    for line in process.stdout:
        log += line
        if 'Epoch(train)  [3][4/6]' in line:
            os.killpg(process.pid, signal.SIGTERM)
    assert process.wait() == 143, log
    assert 'The learning rate is not scaled' in log
    assert 'Run the same command with --resume' in log
    stopped = find_latest_checkpoint(cfg.work_dir)
    assert 16 <= int(Path(stopped).stem.split('_')[1]) < 72

    cfg.resume = True
    build_runner(cfg).train()
    cfg.resume = False
    cfg.work_dir = str(tmp_path / 'unbroken')
    build_runner(cfg).train()
    pairs = zip(states(tmp_path / 'run/epoch_12.pth'),
                states(tmp_path / 'unbroken/epoch_12.pth'), strict=True)
    assert max(float((a - b).abs().max()) for a, b in pairs) == 0.0


RECORDER = '''
import os
import signal
import time

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class Recorder(Hook):
    """Write images, masks, weights and averaged gradients of a step.

    After it, the launcher receives a signal.
    """

    def before_train_iter(self, runner, batch_idx, data_batch):
        if runner.iter > 0:
            return
        model = runner.model.module
        draw = model.draw_plan
        self.record = dict(
            inputs=data_batch['inputs'],
            weights={k: v.clone() for k, v in model.state_dict().items()})

        def recorded(images):
            plan = draw(images)
            self.record.update(
                keep=plan.ids_keep, predict=plan.ids_predict, grid=plan.grid)
            return plan

        model.draw_plan = recorded
        runner.optim_wrapper.optimizer.register_step_pre_hook(
            lambda *args: self.record.update(grads={
                name: p.grad.clone() for name, p in model.named_parameters()
                if p.grad is not None}))

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter > 0:
            return
        torch.save(self.record, f'{runner.work_dir}/rank{runner.rank}.pt')
        if runner.rank == 1:  # torchrun is told, and tells both
            os.kill(os.getppid(), signal.SIGUSR1)
            time.sleep(2)
'''


def test_two_processes_average_the_gradients_of_the_joined_batch(
        tiny_cfg, tmp_path):
    (tmp_path / 'recorder.py').write_text(textwrap.dedent(RECORDER))
    cfg = tiny_cfg(dict(
        custom_imports=dict(imports=['recorder']),
        custom_hooks=[dict(type='Recorder')],
        auto_scale_lr=dict(base_batch_size=8),
        default_hooks=dict(preemption=dict(interval=2))))
    config = tmp_path / 'tiny.py'
    cfg.dump(config)
    process = subprocess.Popen(
        ['bash', ROOT / 'tools/dist_train.sh', config, '2'],
        env=environment(tmp_path), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True)
    log = finish(process)
    # The ranks agree after every second iteration.
    assert 'SIGUSR1 received: stopped after iteration 2 and wrote' in log, log
    assert (tmp_path / 'run/iter_2.pth').is_file()
    assert process.returncode != 0
    assert 'becomes 0.005 for 4 (2 images a rank x 2 ranks' in log

    ranks = [torch.load(tmp_path / f'run/rank{r}.pt') for r in (0, 1)]
    assert not torch.equal(ranks[0]['inputs'], ranks[1]['inputs'])
    assert not torch.equal(ranks[0]['keep'], ranks[1]['keep'])

    model_cfg = cfg.model.to_dict()
    model_cfg['data_preprocessor'] = cfg.data_preprocessor.to_dict()
    model = MODELS.build(model_cfg)
    model.load_state_dict(ranks[0]['weights'])
    images = torch.cat([r['inputs'] for r in ranks])
    plan = MaskPlan(
        ids_keep=torch.cat([r['keep'] for r in ranks]),
        ids_predict=torch.cat([r['predict'] for r in ranks]),
        grid=ranks[0]['grid'])
    data = model.data_preprocessor(
        dict(inputs=images, data_samples=None), training=True)
    sum(v for k, v in model.loss(data['inputs'], plan=plan).items()
        if 'loss' in k).backward()
    grads = {k: p.grad for k, p in model.named_parameters()
             if p.grad is not None}
    assert len(grads) > 20
    for record in ranks:
        assert record['grads'].keys() == grads.keys()
        for name, grad in grads.items():
            torch.testing.assert_close(record['grads'][name], grad,
                                       atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize('script, arguments, usage', [
    ('dist_train.sh', ['c.py'], 'CONFIG NPROC'),
    ('dist_test.sh', ['c.py', 'c.pth'], 'CONFIG CHECKPOINT NPROC'),
    ('slurm_train.sh', ['part', 'job'], 'PARTITION JOB_NAME CONFIG'),
])
def test_scripts_explain_themselves(script, arguments, usage):
    result = subprocess.run(['bash', ROOT / 'tools' / script, *arguments],
                            text=True, capture_output=True)
    assert result.returncode == 2
    assert usage in result.stderr
