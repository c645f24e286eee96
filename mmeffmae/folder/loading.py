# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""How images come to the steps: from files by processes, or from the device."""
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from .kept import Kept
from .machine import Machine
from .measure import Speed
from .recipe import PlanError, Recipe
from .request import Request
from .survey import Survey

#: Passes over the images where nobody says how many or how long.
DEFAULT_EPOCHS = 300
#: Of the steps' rate what crops on the device leave, before it is measured.
_CROPPED = 0.9
#: Share of the steps' rate below which loading holds the GPU up.
_HELD_UP = 0.8
#: Batches that a loading process holds ready, as torch has it.
_PREFETCHED = 2


@dataclass(frozen=True)
class Loading:
    """The choice between files and the device, and what files need.

    Attributes:
        request: What is asked for.
        survey: Of the folder.
        num_images: Number of images to read.
        machine: What there is to train with.
    """
    request: Request
    survey: Survey
    num_images: int
    machine: Machine

    def check(self) -> None:
        """Refuse what cannot be together with images on the device.

        Raises:
            PlanError: It is asked for.
        """
        if self.request.images != 'device':
            return
        if not self.survey.photographs:
            raise PlanError(
                f'--images device: images of {self.survey.kind} values in '
                f'{self.survey.channels} band(s) cannot be kept there, 8-bit colour '
                'can: leave --images out')
        if others := self._asked_of_files():
            raise PlanError(
                f'--images device with {others}: nothing is left to load, so leave '
                'one of them out')

    def _asked_of_files(self) -> str:
        options = [f'--cfg-options {name}' for name in self.request.options or ()
                   if name.startswith('train_dataloader')]
        workers = self.request.workers
        return ', '.join([f'--workers {workers}'] * bool(workers) + options)

    def workers(self, speed: Speed) -> int:
        """Processes that load files."""
        if self.request.workers is not None:
            return self.request.workers
        if self.machine.on_gpu:
            wanted = math.ceil(1.2 * speed.wanted_rate * speed.load_seconds)
            return max(1, min(wanted, self.machine.cores, 16))
        return 1 if self.machine.cores > 1 else 0

    def files_rate(self, speed: Speed) -> float:
        """Images a second of a training that reads files."""
        return speed.rate(self.workers(speed), self.machine)

    def reading(self, speed: Speed) -> float:
        """Seconds in which all cores read every photograph once."""
        return self.num_images * speed.load_seconds / self.machine.cores

    def kept(
        self, recipe: Recipe, speed: Speed, seconds: Optional[float]
    ) -> Optional[Kept]:
        """What fits on the device, as asked, or where that saves time.

        Args:
            recipe: What a step is.
            speed: Of steps that read files.
            seconds: Left to read and train, if there is a limit.
        """
        asked = self.request.images
        if asked == 'files' or asked is None and not (
                self.machine.on_gpu and self.survey.photographs
                and self.request.workers is None and not self._asked_of_files()
                and self.saves(speed, seconds, _CROPPED * speed.steps_rate)):
            return None
        return next((kept for kept in self._options(recipe) if not kept.lacking(
            recipe.batch, speed, self.machine)), None)

    def _options(self, recipe: Recipe) -> Iterator[Kept]:
        return Kept.options(self.survey, self.num_images, recipe.img_size)

    def saves(self, speed: Speed, seconds: Optional[float], device: float) -> bool:
        """Whether reading once and cropping on the device takes less time.

        Args:
            speed: Of steps that read files.
            seconds: Left to read and train, if there is a limit.
            device: Images a second of a training that does so.
        """
        files = self.files_rate(speed)
        epochs = self.request.epochs or DEFAULT_EPOCHS
        whole = epochs * self.num_images / files
        if seconds is not None and not self.request.epochs:
            whole = seconds
        return (whole - self.reading(speed)) * device > whole * files

    def too_large(self, recipe: Recipe, speed: Speed) -> str:
        """Why nothing fits on the device."""
        *_, smallest = self._options(recipe)
        return (f'--images device: {self.num_images:,} photographs of up to '
                f'{smallest.side} px take '
                f'{smallest.lacking(recipe.batch, speed, self.machine)}: leave '
                '--images out, or take a smaller --img-size')

    def warnings(self, recipe: Recipe, speed: Speed) -> Iterator[str]:
        """What reading files costs or risks."""
        rate, workers = self.files_rate(speed), self.workers(speed)
        if self.machine.on_gpu and rate < _HELD_UP * speed.steps_rate:
            yield (f'loading holds the GPU up ({rate:.0f} of {speed.steps_rate:.0f} '
                   'images/s): scale the photographs once to a shorter side of about '
                   '512 px')
        batch = recipe.batch * self.survey.channels * recipe.img_size**2
        batch *= 1 if self.survey.photographs else 4  # bytes a value
        needed, free = _PREFETCHED * workers * batch, self.machine.shared
        if free is not None and needed > free:
            yield (f'/dev/shm has {free / 2**20:.0f} MiB free, and {workers} processes '
                   f'hand over images through {needed / 2**20:.0f} MiB: they may die '
                   'of bus errors. Start the container with --shm-size=8g, or pass '
                   '--workers 0')
