# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What there is to train with."""
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import torch
from mmengine.device import get_device

from mmeffmae.compat import has_bfloat16

#: Share of the free memory that a plan uses: fragments, and what else grows.
_GPU_SHARE, _CPU_SHARE = 0.9, 0.7
#: Of this process's container (cgroup v2).
_CGROUP = Path('/sys/fs/cgroup')


@dataclass(frozen=True)
class Machine:
    """The device and its limits.

    Attributes:
        device: As torch names it.
        name: Of the GPU or processor, for the plan.
        memory: Bytes that training may take.
        cores: Processor cores that this process may use.
        disk: Free bytes where the run will be written.
        bf16: Whether the GPU computes in bfloat16.
        shared: Bytes through which processes hand over images, if there is a limit.
        host: Bytes of the computer's own memory that training may take.
    """
    device: str
    name: str
    memory: int
    cores: int
    disk: int
    bf16: bool = False
    shared: Optional[int] = None
    host: int = 0

    @property
    def on_gpu(self) -> bool:
        """Whether there is a GPU."""
        return self.device != 'cpu'

    @property
    def spare_cores(self) -> int:
        """Cores that training leaves to the loading of images."""
        return self.cores - (0 if self.on_gpu else torch.get_num_threads())


def this_machine(work_dir: Path, memory_gib: Optional[float] = None) -> Machine:
    """Look at this machine.

    Args:
        work_dir: Where the run will be written; need not exist.
        memory_gib: Limit on the memory instead of what is free.
    """
    device = get_device()
    cores = len(os.sched_getaffinity(0))
    if device == 'cuda':
        memory = int(_GPU_SHARE * torch.cuda.mem_get_info()[0])
        name, bf16 = torch.cuda.get_device_name(), has_bfloat16()
    else:
        memory = int(_CPU_SHARE * _available_memory())
        name, bf16 = f'{torch.get_num_threads()} of {cores} processor cores', False
    if memory_gib is not None:
        memory = int(memory_gib * 2**30)
    place = work_dir.absolute()
    while not place.exists():
        place = place.parent
    shared = Path('/dev/shm')
    return Machine(
        device, name, memory, cores, shutil.disk_usage(place).free, bf16,
        shutil.disk_usage(shared).free if shared.is_dir() else None,
        int(_CPU_SHARE * _available_memory()))


def _available_memory() -> int:
    """Free bytes, within the container's limit where there is one."""
    free = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    for line in Path('/proc/meminfo').read_text().splitlines():
        if line.startswith('MemAvailable'):
            free = int(line.split()[1]) * 1024
    return min(free, _container_memory() or free)


def _container_memory() -> Optional[int]:
    """What a container has left; the files that it caches can go."""
    limit = _CGROUP / 'memory.max'
    if not limit.is_file() or not (text := limit.read_text().strip()).isdigit():
        return None
    stat = dict(
        line.split() for line in (_CGROUP / 'memory.stat').read_text().splitlines())
    cached = int(stat['inactive_file']) + int(stat['active_file'])
    used = int((_CGROUP / 'memory.current').read_text()) - cached
    return max(0, int(text) - used)
