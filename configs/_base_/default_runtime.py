# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
default_scope = 'mmpretrain'

default_hooks = dict(
    runtime_info=dict(type='mmeffmae.LazyRuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    progress=dict(type='mmeffmae.ProgressHook', window_size=50),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    randomness=dict(type='mmeffmae.KeyedRandomnessHook'),
    teacher=dict(type='mmeffmae.TeacherHook'),
    nonfinite=dict(type='mmeffmae.NonFiniteGuardHook', interval=50),
    checkpoint=dict(
        type='mmeffmae.SafeCheckpointHook', interval=1, max_keep_ckpts=2),
    preemption=dict(type='mmeffmae.PreemptionHook'),
    rank_watch=dict(type='mmeffmae.RankWatchHook'),
    load_report=dict(type='mmeffmae.LoadReportHook'),
    environment=dict(type='mmeffmae.EnvironmentHook'))

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))

# One seed for all ranks; KeyedRandomnessHook gives each its own stream.
randomness = dict(seed=0, deterministic=False)

# Curves and pictures go to every backend listed here; mmengine also has
# TensorboardVisBackend, WandbVisBackend and MLflowVisBackend.
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(
    type='mmpretrain.UniversalVisualizer', vis_backends=vis_backends)

log_level = 'INFO'
load_from = None
resume = False
