# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What the doctor says about the machine: GPUs, precision, data, a step."""
from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

#: Folders of data sets below ``MMEFFMAE_DATA_ROOT``, and where they come from.
DATA_SETS = {
    'mini/images': 'python tools/make_mini_scenes.py --out data/mini',
    'imagenet': 'image-net.org, folders train and val with one folder a class',
    'imagenette112': 'Imagenette at 112 px, folders train and val',
    'camvid': 'CamVid, folders images and annotations',
    'coco': 'cocodataset.org, 2017, with stuffthingmaps for HTC++',
    'ade/ADEChallengeData2016': 'ADE20K, the challenge version',
}
_GIB = 2**30
#: Memory that several data-loading workers need to hand batches over.
_LEAST_SHARED = _GIB
_LEAST_DISK = 5 * _GIB


def machine_lines(installed: dict[str, str]) -> Iterator[str]:
    """Lines about everything below; needs torch, and no more.

    Args:
        installed: Version of every distribution by normalised name.
    """
    yield from pairing_lines(installed)
    yield from device_lines()
    yield from storage_lines(Path.cwd())
    yield from data_lines(os.environ.get('MMEFFMAE_DATA_ROOT', 'data'))


def pairing_lines(installed: dict[str, str]) -> Iterator[str]:
    """Packages that must fit each other and do not."""
    torch_version = _minor(installed.get('torch'))
    vision = _minor(installed.get('torchvision'))
    # torchvision 0.(n + 15) belongs to torch 2.n.
    if torch_version and vision and torch_version[0] == 2 and (
            vision != (0, torch_version[1] + 15)):
        yield (f'warning: torchvision {installed["torchvision"]} was built for '
               f'another torch than {installed["torch"]}: pip install '
               f'"torchvision==0.{torch_version[1] + 15}.*"')
    scipy = _minor(installed.get('scipy'))
    if scipy and scipy >= (1, 14):
        yield (f'note: SciPy {installed["scipy"]} has no interp2d any more, which '
               "mmpretrain's and mmseg's own resizing of relative positions (BEiT, "
               'SimMIM) calls; this package resizes without SciPy')
    setuptools = _minor(installed.get('setuptools'))
    if 'mmengine' in installed and (setuptools is None or setuptools >= (82, 0)):
        yield ('warning: mmengine of upstream needs pkg_resources, which setuptools '
               '82 removed: pip install "setuptools<82"')
    import torch
    try:
        torch.zeros(1).numpy()
    except RuntimeError as error:
        yield (f'ERROR: torch {torch.__version__} cannot use NumPy '
               f'{installed.get("numpy", "(missing)")} ({error}): install the NumPy '
               'of constraints.txt')


def _minor(version: str | None) -> tuple[int, int] | None:
    parts = (version or '').split('.')
    if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        return None
    return int(parts[0]), int(parts[1])


def device_lines() -> Iterator[str]:
    """The accelerators, their precisions, and what mmcv's operators run on."""
    import torch
    built = torch.version.cuda
    if not torch.cuda.is_available():
        yield ('device: CPU (float32; --amp computes in bfloat16, which few CPUs '
               'speed up)')
        if built and os.path.exists('/proc/driver/nvidia/version'):
            yield (f'warning: there is an NVIDIA driver, but torch for CUDA {built} '
                   'sees no GPU: the driver may be too old for it (nvidia-smi shows '
                   'its CUDA), or CUDA_VISIBLE_DEVICES hides them')
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        # Older GPUs emulate bfloat16, slower than they compute in float32.
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        kinds = ['float16', *(['bfloat16'] if bf16 else [])]
        yield (f'device: {properties.name}, {properties.total_memory / _GIB:.0f} GiB, '
               f'compute capability {properties.major}.{properties.minor}, mixed '
               f'precision in {" and ".join(kinds)}')
        if len(kinds) == 1:
            yield ('note: without bfloat16 the pre-training configs compute in '
                   'float32; float16 is for detection alone')
    yield from _operator_lines(built)


def _operator_lines(built: str | None) -> Iterator[str]:
    try:
        from mmcv._ext import get_compiling_cuda_version
    except ImportError:
        return
    ops = get_compiling_cuda_version()
    if ops == 'not available':
        yield ("note: mmcv's operators were built without CUDA, so detection runs on "
               "the CPU only; with a CUDA toolkit of torch's version, remove .venv and "
               'set up again')
    elif built and ops.split('.')[:1] != built.split('.')[:1]:
        yield (f"warning: mmcv's operators were built with CUDA {ops}, torch with "
               f'{built}: build mmcv again, bash tools/setup_env.sh does')


def storage_lines(folder: Path) -> Iterator[str]:
    """Too little room for checkpoints or for workers."""
    free = shutil.disk_usage(folder).free
    yield f'disk: {free / _GIB:.0f} GiB free in {folder}'
    if free < _LEAST_DISK:
        yield ('warning: checkpoints of a ViT-B take 1.3 GB each, with those of '
               'optimizers: choose a --work-dir on a larger disk')
    if not os.access(folder, os.W_OK):
        yield f'warning: {folder} cannot be written: choose a --work-dir elsewhere'
    try:
        shared = shutil.disk_usage('/dev/shm').total
    except OSError:
        return
    if shared < _LEAST_SHARED:
        yield (f'warning: /dev/shm has {shared / 2**20:.0f} MiB; data-loading workers '
               'die of bus errors there: start the container with --shm-size=8g, or '
               'set train_dataloader.num_workers=0')


def data_lines(root: str) -> Iterator[str]:
    """Which data sets the configs would find."""
    place = Path(root).expanduser()
    # The mini scenes stay in the repository.
    found = [name for name in DATA_SETS if (
        Path('data') if name.startswith('mini') else place).joinpath(name).is_dir()]
    yield (f'data in {place}: {", ".join(found) or "none"} '
           '(MMEFFMAE_DATA_ROOT sets it)')
    for name, source in DATA_SETS.items():
        if name not in found:
            yield f'  not there: {name} ({source})'


def step_lines(seconds: float = 2.) -> Iterator[str]:
    """A small model learns for some seconds, in every precision of the device.

    Args:
        seconds: For all precisions together.
    """
    import torch
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    kinds: list[torch.dtype | None] = [None]
    if device == 'cuda':
        kinds += [torch.float16]
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        kinds += [torch.bfloat16] if bf16 else []
    for kind in kinds:
        name = 'float32' if kind is None else str(kind).removeprefix('torch.')
        try:
            steps, loss = _train(device, kind, seconds / len(kinds))
        except Exception as error:  # any reason is worth reporting
            first = str(error).splitlines()[0] if str(error) else ''
            yield (f'ERROR: a training step in {name} on {device} fails with '
                   f'{type(error).__name__}: {first}. On a GPU, check the driver and '
                   'that torch supports this card; else set up again with '
                   'tools/setup_env.sh')
            continue
        yield f'step: {steps} forward and backward passes in {name} on {device}, ' + (
            f'loss {loss[0]:.2f} to {loss[1]:.2f}')


def _train(device: str, kind, seconds: float) -> tuple[int, tuple[float, float]]:
    """Number of steps of a tiny masked autoencoder, first and last loss."""
    import torch

    from mmeffmae.registry import MODELS
    model = MODELS.build(dict(
        type='mmeffmae.MaskedAutoencoder',
        backbone=dict(
            type='mmeffmae.MaskedViT', img_size=64, patch_size=8,
            arch=dict(embed_dims=96, num_layers=2, num_heads=3,
                      feedforward_channels=384)),
        neck=dict(type='mmeffmae.MaskedDecoder', decoder_embed_dim=48,
                  decoder_depth=1, decoder_num_heads=3),
        head=dict(type='mmeffmae.PixelHead', norm_pix=False),
        masking=dict(type='mmeffmae.RandomMasking', mask_ratio=0.75))).to(device)
    images = torch.rand(16, 3, 64, 64, device=device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    losses: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(losses) < 2:
        with torch.autocast(device, kind, enabled=kind is not None):
            terms = model(images, mode='loss')
        loss = sum(value for name, value in terms.items() if 'loss' in name)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if not losses[-1] < float('inf'):
            raise FloatingPointError(f'the loss is {losses[-1]}')
    return len(losses), (losses[0], losses[-1])
