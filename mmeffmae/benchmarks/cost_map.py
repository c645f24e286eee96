# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Where the time and the memory of a training step go, beside the floor."""
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.runner import Runner
from PIL import Image
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmeffmae.datasets.device_images import of_files
from mmeffmae.engine.lr_scaling import scale_lr
from mmeffmae.evaluation.peaks import peak_bandwidth, peak_flops
from mmeffmae.evaluation.stages import Label, Place, StageMeter, metered, timer
from mmeffmae.evaluation.throughput import clock, spread

from .step_time import started_runner

#: In the order in which an image passes them.
STAGES = ('data', 'preprocess', 'masking', 'stem', 'encoder', 'decoder', 'teacher',
          'target', 'loss', 'optimizer', 'decorrelation', 'hooks', 'other')
#: How often an optimizer step of AdamW touches a parameter: it reads the weight,
#: the gradient and two moments, and writes all but the gradient.
_ADAMW_TOUCHES = 7


def step_config(
    path: str, options: dict | None, batch_size: int, folder: str
) -> Config:
    """A config that trains on any folder of images, for its cost alone.

    Args:
        path: Of a pre-training; its pipeline is kept.
        options: Settings that are merged into it.
        batch_size: Images of a step; the learning rate follows.
        folder: Images, labels are not read.
    """
    config = Config.fromfile(path)
    config.merge_from_dict(options or {})
    config.optim_wrapper.accumulative_counts = 1
    loader = config.train_dataloader
    loader.batch_size = batch_size
    loader.sampler = ConfigDict(type='mmeffmae.InfiniteKeyedSampler', shuffle=True)
    loader.collate_fn = ConfigDict(type='default_collate')
    loader.dataset = ConfigDict(
        type='mmeffmae.UnlabelledImages', data_root=folder,
        pipeline=of_files(loader.dataset)['pipeline'])
    scale_lr(config, world_size=1)
    return config


def write_noise(folder: Path, number: int) -> None:
    """JPEG files of 500 x 375 px of smooth noise, where there is no folder."""
    rng = np.random.default_rng(0)
    for i in range(number):
        coarse = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
        image.save(folder / f'{i:04}.jpg', quality=90)


def map_costs(
    config: Config, work_dir: Path, rounds: int = 5, warmup: int = 1
) -> dict[str, Any]:
    """Cost of every stage of whole iterations of the runner.

    Args:
        config: As :func:`step_config` makes it.
        work_dir: Where the runner may write.
        rounds: Timed iterations.
        warmup: Iterations before these.

    Returns:
        ``stages``, by name: ``forward_seconds`` and ``backward_seconds``
        (spread over the rounds), ``macs``, ``saved_bytes`` and
        ``floor_seconds``, all of one step; ``step_seconds``, without the
        loading of data; ``peak``, the rates behind the floor.
    """
    device = torch.device(get_device())
    runner = started_runner(config, work_dir)
    places = stage_places(runner)
    batches = iter(runner.train_loop.dataloader)
    batch, first_load = _timed(lambda: next(batches), clock(device))
    # A hook may change the batch in place.
    run = lambda: runner.train_loop.run_iter(dict(batch))  # noqa: E731
    for _ in range(warmup):
        run()
    rounds_of_time = [_charge(timer(device), places, run) for _ in range(rounds)]
    loads = [_timed(lambda: next(batches), clock(device))[1] for _ in range(rounds)]
    amp = getattr(runner.optim_wrapper, 'enabled', False)
    peak = dict(
        dtype='bfloat16' if amp else 'float32',
        flops=peak_flops(device, torch.bfloat16 if amp else torch.float32),
        bandwidth=peak_bandwidth(device))
    macs, saved = _macs(places, run), _saved(runner.model, places, run)
    stages = _stages(rounds_of_time, macs, saved, _parameter_bytes(runner.model), peak)
    stages['data'] = dict(_empty(), forward_seconds=spread(loads))
    return dict(
        images=len(batch['inputs']),
        image_size=list(batch['inputs'].shape[-2:]),
        step_seconds=spread([sum(times.values()) for times in rounds_of_time]),
        first_batch_seconds=first_load,
        peak=peak,
        stages={name: stages[name] for name in STAGES if name in stages})


def stage_places(runner: Runner) -> list[Place]:
    """The methods that make up a training iteration."""
    model, wrapper = runner.model, runner.optim_wrapper
    encoder = model.backbone
    stem = Place('stem', encoder, '_embed_visible')
    if not hasattr(encoder, '_embed_visible'):
        stem = Place('stem', encoder.patch_embed, 'embed_visible')
    places = [
        Place('preprocess', model.data_preprocessor, 'forward'),
        Place('masking', model, 'draw_plan'),
        Place('masking', model, 'sampled_plan'),
        stem,
        Place('encoder', encoder, 'forward'),
        Place('decoder', model.neck, 'forward'),
        Place('target', model.head, 'target'),
        Place('loss', model.head, 'loss'),
        Place('backward', wrapper, 'backward'),
        Place('optimizer', wrapper, 'step'),
        Place('optimizer', wrapper, 'zero_grad'),
        Place('hooks', runner, 'call_hook'),
    ]
    if hasattr(model, 'teacher'):
        places += [Place('teacher', model.teacher, 'forward'),
                   Place('teacher', model, 'update_teacher')]
    for hook in runner.hooks:
        if getattr(hook, 'decorrelator', None) is not None:
            places.append(Place('decorrelation', hook.decorrelator, '_update'))
    return places


def _timed(
    compute: Callable[[], Any], read: Callable[[], float]
) -> tuple[Any, float]:
    start = read()
    value = compute()
    return value, read() - start


def _charge(
    meter: StageMeter, places: list[Place], run: Callable[[], Any]
) -> dict[Label, float]:
    with metered(meter, places), meter.running():
        run()
    return meter.charges()


def _macs(places: list[Place], run: Callable[[], Any]) -> dict[Label, float]:
    # Torch counts no fused attention of the CPU; its unfused form is equal.
    counted = {torch.ops.aten.convolution_backward: _conv_backward_flops}
    with FlopCounterMode(display=False, custom_mapping=counted) as counter, \
            sdpa_kernel(SDPBackend.MATH):
        flops = _charge(StageMeter(counter.get_total_flops), places, run)
    return {label: count / 2 for label, count in flops.items()}


def _conv_backward_flops(
    grad_shape: torch.Size, x_shape: torch.Size, weight_shape: torch.Size, *args: Any,
    out_shape: Any = None,
) -> int:
    """As many as forward for each gradient; torch's own forgets the groups."""
    output_mask = args[-1]
    return 2 * sum(output_mask[:2]) * grad_shape.numel() * weight_shape[1:].numel()


def _saved(
    model: nn.Module, places: list[Place], run: Callable[[], Any]
) -> dict[Label, float]:
    with _saved_so_far(model) as total:
        return _charge(StageMeter(lambda: total[0]), places, run)


@contextmanager
def _saved_so_far(model: nn.Module) -> Iterator[list[int]]:
    """Bytes kept for the backward pass; a storage counts where it comes up.

    Weights do not count. See :func:`mmeffmae.evaluation.cost.saved_bytes`.
    """
    known = {t.untyped_storage().data_ptr()
             for t in (*model.parameters(), *model.buffers())}
    total, alive = [0], []

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            known.add(storage.data_ptr())
            alive.append(storage)  # so that no address is given twice
            total[0] += storage.nbytes()
        # A node that keeps its own output with its history is never freed.
        return tensor.detach()

    with saved_tensors_hooks(note, lambda tensor: tensor):
        yield total


def _parameter_bytes(model: nn.Module) -> dict[str, float]:
    """Bytes of weights, gradients and moments that a step has to move.

    A stage reads its weights forward and backward and writes their gradients;
    a teacher is read, and read and written with the student in its update.
    """
    stem = _size(model.backbone.patch_embed)
    moved = dict(
        stem=3. * stem,
        encoder=3. * (_size(model.backbone) - stem),
        decoder=3. * _size(model.neck))
    if hasattr(model, 'teacher'):
        moved['teacher'] = 4. * _size(model.teacher)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    moved['optimizer'] = 4. * _ADAMW_TOUCHES * trained
    return moved


def _size(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def _empty() -> dict[str, Any]:
    return dict(
        forward_seconds=spread([0.]), backward_seconds=spread([0.]), macs=0,
        saved_bytes=0, floor_seconds=0.)


def _stages(
    times: list[dict[Label, float]],
    macs: dict[Label, float],
    saved: dict[Label, float],
    moved: dict[str, float],
    peak: dict[str, Any],
) -> dict[str, dict[str, Any]]:
    stages = {}
    for name in {label.stage for of_round in times for label in of_round}:
        directions = Label(name), Label(name, backward=True)
        forward, backward = (
            spread([of_round.get(label, 0.) for of_round in times])
            for label in directions)
        work = sum(macs.get(label, 0.) for label in directions)
        kept = sum(saved.get(label, 0.) for label in directions)
        traffic = moved.get(name, 0.) + 2 * kept  # written once, read once
        stages[name] = dict(
            forward_seconds=forward,
            backward_seconds=backward,
            macs=round(work),
            saved_bytes=round(kept),
            floor_seconds=max(
                2 * work / peak['flops'], traffic / peak['bandwidth']))
    return stages


def machine_load() -> float:
    """Processes that want to run, mean of the last minute."""
    return os.getloadavg()[0]
