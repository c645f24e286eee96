# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
# Weights, gradients and moments spread over the GPUs (FSDP), by mmengine's
# strategy. No pictures and no monitors, which call the model by the side.
_base_ = ['./default_runtime.py']
runner_type = 'FlexibleRunner'
strategy = dict(
    type='FSDPStrategy',
    state_dict_cfg='full',  # checkpoints are those of other runs
    model_wrapper=dict(
        type='MMFullyShardedDataParallel',
        use_orig_params=True,
        auto_wrap_policy='mmeffmae.wrap_attention_and_ffn'))
