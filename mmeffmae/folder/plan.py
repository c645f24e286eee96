# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What to train, for how long, and why: chosen from measured steps."""
import math
import statistics
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config

from .kept import crop_seconds
from .loading import DEFAULT_EPOCHS, Loading
from .machine import Machine
from .measure import Speed, measure
from .recipe import (
    ENCODERS,
    FROM_NOTHING,
    InitialWeights,
    PlanError,
    Recipe,
    merge_options,
)
from .request import Request
from .survey import Survey

#: Images below which no plan is made, and below which a warning stands.
MIN_IMAGES, FEW_IMAGES = 32, 1000
#: Passes over the images for which resolution is given up.
_WANTED_EPOCHS = 30
#: More passes than anybody has published for a masked autoencoder.
_MAX_EPOCHS = 1600
#: Start of training, export and report, in seconds.
OVERHEAD = 45
#: Share of the time that is left for what a step's time does not hold:
#: checkpoints, pictures, the log, and a busy machine.
_SLACK = 0.1
#: Updates up to which the rate of short runs is taken, and from which MAE's;
#: between them by the logarithm. The first was measured, the second is a guess.
_FEW_UPDATES, _MANY_UPDATES = 2000, 20_000
#: Iterations from which the rate rises at first: of few, several GPUs would leave none.
_MANY_ITERATIONS = 80
#: Iterations below which PCAE's teacher has to follow faster.
_SHORT_TEACHER = 10_000
#: Rates of decorrelation in long and in short runs, and updates times rate of the
#: study in which the second was measured.
_SLOW_ETA, _FAST_ETA, _ETA_UPDATES = 1e-4, 1e-3, 0.54
_CHECKPOINT_SECONDS = 600
#: Share of the iterations on images of half the side, of progressive runs.
_LOW = 0.8


@dataclass(frozen=True)
class Choice:
    """One line of a plan."""
    name: str
    value: str
    reason: str


@dataclass
class Plan:
    """A config that fits, and the reasons.

    Attributes:
        config: Ready for ``tools/train.py``.
        recipe: What a step is.
        choices: In the order in which they were made.
        epochs: Passes over the images.
        seconds: Expected time of training.
        warnings: What the user should know.
    """
    config: Config
    recipe: Recipe
    choices: list[Choice]
    epochs: int
    seconds: float
    warnings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The choices and their reasons, a line each."""
        width = max(len(choice.name) for choice in self.choices)
        lines = [f'  {choice.name:<{width}}  {choice.value}: {choice.reason}'
                 for choice in self.choices]
        lines += [f'  note: {warning}' for warning in self.warnings]
        return '\n'.join(lines)


def make_plan(
    request: Request,
    survey: Survey,
    images: Path,
    num_images: int,
    machine: Machine,
    elapsed: float = 0.,
) -> Plan:
    """Choose what is not asked for; measures a few steps.

    Args:
        request: What is asked for.
        survey: Of the folder.
        images: List of the images to read.
        num_images: Number of names in it.
        machine: What there is to train with.
        elapsed: Seconds of the budget that have gone.

    Raises:
        PlanError: The folder, the memory, the disk or the time does not do.
    """
    return _Planner(request, survey, images, num_images, machine, elapsed).plan()


class _Planner:

    def __init__(self, request: Request, survey: Survey, images: Path,
                 num_images: int, machine: Machine, elapsed: float) -> None:
        self.request, self.survey, self.images = request, survey, images
        self.num_images, self.machine = num_images, machine
        self.seconds = None if request.minutes is None else (
            60 * request.minutes - elapsed - OVERHEAD)
        self.loading = Loading(request, survey, num_images, machine)
        self.reading = 0.
        self.choices: list[Choice] = []
        self.warnings: list[str] = []

    def plan(self) -> Plan:
        check_images(self.survey, self.num_images)
        self.loading.check()
        recipe = self._model()
        recipe, speed = self._fit(self._batch(self._resolution(recipe)))
        recipe, speed = self._lower_resolution(recipe, speed)
        recipe, speed = self._keep(recipe, speed)
        workers = 0 if recipe.kept else self._workers(recipe, speed)
        rate = speed.rate(workers, self.machine)
        epochs = self._epochs(recipe, speed, rate)
        self._check_disk(speed)
        seconds = epochs * self.num_images / rate
        config = self._config(recipe, epochs, workers, seconds / epochs)
        return Plan(config, recipe, self.choices, epochs, self.reading + seconds,
                    self.warnings)

    def _note(self, name: str, value: Any, reason: str, asked: Any = None,
              figures: str = '') -> None:
        reason = 'as you asked' if asked is not None else reason
        self.choices.append(Choice(
            name, str(value), '; '.join(filter(None, [reason, figures]))))

    def _model(self) -> Recipe:
        request = self.request
        init = InitialWeights.read(request.init) if request.init else None
        self._note('device', self.machine.name,
                   f'{self.machine.memory / 2**30:.1f} GiB to use')
        method = request.method or 'mae'
        self._note(
            'method', method, 'the baseline; mae-muon and --progressive were faster in '
            'short studies on a CPU, nothing was compared on a GPU yet', request.method)
        encoder = self._encoder(method, init)
        patch = request.patch_size or (init and init.patch_size)
        if not patch:
            side = statistics.median(self.survey.short_sides)
            patch = 16 if side >= 128 else 8
        precision = request.precision or ('bf16' if self.machine.bf16 else 'fp32')
        self._note('precision', precision, 'the GPU computes in it' if precision ==
                   'bf16' else 'the device has no bfloat16 worth using',
                   request.precision)
        low = _LOW if request.progressive else None
        return Recipe(
            method, encoder, 0, patch, 0, init=init, precision=precision, low=low)

    def _encoder(self, method: str, init: Optional[InitialWeights]) -> str:
        pyramid = method == 'um-mae'
        if init is not None:
            if method in FROM_NOTHING:
                raise PlanError(f'--init with --method {method}: '
                                f'{FROM_NOTHING[method]}; use another method')
            encoder = self.request.encoder or init.encoder
            if encoder is None:
                raise PlanError(
                    f'--init {init.path} holds none of {", ".join(ENCODERS)}, or which '
                    'one cannot be told: pass --encoder, and with --cfg-options '
                    'model.backbone.arch what differs from it')
            self._note('initial weights', init.path.name, f'licence {init.licence}')
            reason = 'that of the initial weights'
        elif pyramid:
            encoder, reason = 'swin-tiny', 'the smallest of UM-MAE\'s encoders'
        elif not self.machine.on_gpu:
            encoder, reason = 'vit-tiny', 'the smallest, as there is no GPU'
        elif self.num_images < 20_000:
            encoder, reason = 'vit-small', (
                'under 20,000 images; a rule of thumb, not measured here')
        else:
            encoder, reason = 'vit-base', (
                '20,000 images or more; a rule of thumb, not measured here')
        encoder = self.request.encoder or encoder
        if (encoder.split('-')[0] == 'vit') == pyramid:
            fitting = [name for name in ENCODERS
                       if (name.split('-')[0] == 'vit') != pyramid]
            raise PlanError(f'--method {method} with --encoder {encoder}: it takes '
                            f'{", ".join(fitting)}')
        self._note('encoder', encoder, reason, self.request.encoder)
        return encoder

    def _sizes(self, recipe: Recipe) -> list[int]:
        """Image sizes that fit the encoder and the photographs, largest first."""
        side = statistics.median(self.survey.short_sides)
        if recipe.method == 'um-mae':
            # Powers of two, so that windows divide every map.
            sizes = [16 * recipe.patch_size, 8 * recipe.patch_size]
        else:
            unit = 2 * recipe.patch_size  # an even grid, for every masking
            sizes = [unit * n for n in range(8, 3, -1)]
            if recipe.patch_size >= 14:  # the usual 224
                sizes = [size for size in sizes if size <= 224]
        return [size for size in sizes if size <= side] or sizes[-1:]

    def _resolution(self, recipe: Recipe) -> Recipe:
        if self.request.img_size:
            return replace(recipe, img_size=self.request.img_size)
        return replace(recipe, img_size=self._sizes(recipe)[0])

    def _batch(self, recipe: Recipe) -> Recipe:
        batch = self.request.batch_size
        if batch is None:
            batch = 2**int(math.log2(max(self.num_images / 16, 8)))
            batch = min(batch, 256 if self.machine.on_gpu else 64)
        return replace(recipe, batch=min(batch, self.num_images))

    def _measure(self, recipe: Recipe) -> Optional[Speed]:
        """Times and bytes, or None if the memory does not do."""
        unit = 2 * recipe.patch_size
        if recipe.low is not None and recipe.img_size % unit:
            raise PlanError(
                f'--progressive with images of {recipe.img_size} px in patches of '
                f'{recipe.patch_size}: half of them is no number of patches, so take '
                f'--img-size {recipe.img_size // unit * unit or unit}')
        begin = time.monotonic()
        speed = self._measure_at(recipe.img_size, recipe)
        if speed is not None and speed.memory > self.machine.memory:
            speed = None
        if speed is not None and recipe.low is not None:
            small = self._measure_at(recipe.img_size // 2, recipe)
            # The memory stays that of the larger images.
            speed = small and replace(speed, low=(recipe.low, small.step_seconds))
        if self.seconds is not None:
            self.seconds -= round(time.monotonic() - begin)
        return speed

    def _measure_at(self, img_size: int, recipe: Recipe) -> Optional[Speed]:
        config = replace(recipe, img_size=img_size).config(
            self.survey, self.images, self.request.options)
        config.auto_scale_lr = None
        try:
            return measure(config, recipe.batch, self.machine)
        except (ValueError, AssertionError) as error:
            raise PlanError(
                f'{recipe.method} with {recipe.encoder} at {img_size} px'
                f'{" (--progressive)" * (img_size < recipe.img_size)} in patches of '
                f'{recipe.patch_size} px cannot be trained: {error}') from error

    def _fit(self, recipe: Recipe) -> tuple[Recipe, Speed]:
        """Halve the batch, and add up gradients, until it fits the memory."""
        wanted = recipe.batch
        while (speed := self._measure(recipe)) is None:
            if recipe.batch == 1:
                raise PlanError(self._too_small(recipe))
            recipe = replace(recipe, batch=max(1, recipe.batch // 2))
            recipe = replace(recipe, accumulate=-(-wanted // recipe.batch))
        return recipe, speed

    def _too_small(self, recipe: Recipe) -> str:
        message = (
            f'{recipe.method} with {recipe.encoder} at {recipe.img_size} px does not '
            f'fit into the {self.machine.memory / 2**30:.2f} GiB of '
            f'{self.machine.name} with even one image a step')
        for smaller in recipe.smaller():
            if self._measure(smaller) is not None:
                return f'{message}. What would fit: --encoder {smaller.encoder}'
        smallest = self._sizes(recipe)[-1]
        return (f'{message}, nor does a smaller encoder: try --img-size {smallest}, '
                'free memory, or raise --memory if it was limited')

    def _lower_resolution(
        self, recipe: Recipe, speed: Speed
    ) -> tuple[Recipe, Speed]:
        """Fewer pixels where the time allows few passes over the images."""
        reason = 'the largest of the usual sizes that the images have'
        asked = self.request.img_size
        if not asked and not self.request.epochs and self.seconds is not None:
            sizes = self._sizes(recipe)
            passes = [self._passes(recipe, speed, size) for size in sizes]
            enough = [size for size, count in zip(sizes, passes)
                      if count >= _WANTED_EPOCHS]
            # Where even the smallest is too slow, a larger one that loading holds
            # up as much costs nothing.
            size = enough[0] if enough else sizes[passes.index(max(passes))]
            if size < recipe.img_size:
                reason = (f'at {recipe.img_size} px the time is enough for about '
                          f'{passes[0]:.1f} passes over the images, fewer than '
                          f'{_WANTED_EPOCHS}')
                recipe, speed = self._fit(replace(
                    recipe, img_size=size, batch=recipe.effective_batch,
                    accumulate=1))
        self._note('image size', f'{recipe.img_size} px in patches of '
                   f'{recipe.patch_size}', reason, asked)
        if recipe.low is not None:
            self._note('at first', f'images of {recipe.img_size // 2} px', '', True,
                       f'{100 * recipe.low:.0f} % of the iterations')
        batch = str(recipe.effective_batch)
        if recipe.accumulate > 1:
            batch = (f'{recipe.effective_batch} ({recipe.batch} x '
                     f'{recipe.accumulate} accumulated)')
        self._note(
            'batch', batch, 'at least 16 updates a pass over the images',
            self.request.batch_size,
            f'a step takes {speed.memory / 2**30:.2f} GiB')
        return recipe, speed

    def _passes(self, recipe: Recipe, speed: Speed, size: int) -> float:
        """Passes over the images that the time is enough for at another size."""
        assert self.seconds is not None
        # Tokens, and with them the steps, grow with the square of the side; what
        # loading takes is mostly the reading of the whole photograph.
        scaled = speed.scaled((size / recipe.img_size)**2)
        left, rate = self.seconds, self.loading.files_rate(scaled)
        if self.loading.kept(replace(recipe, img_size=size), scaled, left):
            left, rate = left - self.loading.reading(scaled), scaled.steps_rate
        return left * (1 - _SLACK) * rate / self.num_images

    def _keep(self, recipe: Recipe, speed: Speed) -> tuple[Recipe, Speed]:
        """Read the photographs once instead of in every epoch."""
        kept = self.loading.kept(recipe, speed, self.seconds)
        if kept is None:
            if self.request.images == 'device':
                raise PlanError(self.loading.too_large(recipe, speed))
            return recipe, speed
        crop = crop_seconds(kept, recipe.batch, self.machine)
        cropped = replace(speed, load_seconds=crop)
        if self.request.images is None and not self.loading.saves(
                speed, self.seconds, cropped.rate(0, self.machine)):
            return recipe, speed
        self.reading = self.loading.reading(speed)
        if self.seconds is not None:
            self.seconds -= round(self.reading)
        figures = (f'{kept.bytes / 2**30:.2f} GiB, read once in about '
                   f'{_duration(self.reading)}; {1 / crop:.0f} crops/s')
        if kept.enlarged:
            figures += (f'; crops of less than {100 * kept.enlarged:.0f} % of a '
                        'photograph are enlarged')
        self._note(
            'images', f'on the device, up to {kept.side} px',
            f'files would give {self.loading.files_rate(speed):.0f} images/s, the '
            f'steps take {speed.steps_rate:.0f}', self.request.images, figures)
        return replace(recipe, kept=kept.side), cropped

    def _workers(self, recipe: Recipe, speed: Speed) -> int:
        workers = self.loading.workers(speed)
        self._note(
            'loading', f'{workers} process{"es" * (workers != 1)}', '',
            self.request.workers,
            f'one core loads {1 / speed.load_seconds:.0f} images/s, the steps take '
            f'{speed.steps_rate:.0f}')
        self.warnings.extend(self.loading.warnings(recipe, speed))
        return workers

    def _epochs(self, recipe: Recipe, speed: Speed, rate: float) -> int:
        one = self.num_images / rate / (1 - _SLACK)
        asked = self.request.epochs
        if self.seconds is None:
            epochs = asked or DEFAULT_EPOCHS
            reason = 'the schedule of the configs for folders; --minutes sets a limit'
            figures = f'{rate:.1f} images/s measured'
        else:
            fitting = int(self.seconds / one)
            if fitting < (asked or 1):
                raise PlanError(self._too_short(recipe, rate, one, asked or 1))
            epochs = asked or min(fitting, _MAX_EPOCHS)
            reason = 'what the time is enough for' if epochs < _MAX_EPOCHS else (
                'as many as masked autoencoders were ever trained for')
            figures = (f'{rate:.1f} images/s measured, {self.seconds / 60:.1f} of '
                       f'{self.request.minutes:g} minutes left to train')
        self._note('epochs', epochs, reason, asked, figures)
        updates = epochs * math.ceil(self.num_images / recipe.effective_batch)
        self._note('time', _duration(one * epochs),
                   f'{updates:,} updates, {epochs * self.num_images:,} images')
        if self.num_images < FEW_IMAGES and recipe.init is None:
            self.warnings.append(
                f'{self.num_images} images are few to start from nothing: compare '
                'with public weights (--init, tools/compare_inits.py)')
        return epochs

    def _too_short(self, recipe: Recipe, rate: float, one: float, epochs: int) -> str:
        assert self.seconds is not None and self.request.minutes is not None
        spent = 60 * self.request.minutes - self.seconds
        needed = math.ceil((epochs * one + spent) / 60)
        fitting = max(0, int(self.seconds / (one * epochs) * self.num_images))
        ways = [f'--minutes {needed}']
        sizes = [size for size in self._sizes(recipe) if size < recipe.img_size]
        if sizes:
            ways.append(f'a smaller --img-size (down to {sizes[-1]})')
        if recipe.smaller():
            ways.append('a smaller --encoder '
                        f'({", ".join(one.encoder for one in recipe.smaller())})')
        if recipe.method not in ('mae-fast', 'um-mae'):
            ways.append('--method mae-fast')
        if recipe.kept:
            ways.append('--images files')
        ways.append(f'at most {fitting:,} images')
        return (
            f'--minutes {self.request.minutes:g} is too short for {epochs} epoch'
            f'{"s" * (epochs > 1)}: {self.num_images:,} images at {rate:.1f} images/s '
            f'take {_duration(one)} each, and {_duration(spent)} go to survey, '
            f'measuring, start, export and report. What would fit: '
            f'{", or ".join(ways)}')

    def _check_disk(self, speed: Speed) -> None:
        # Weights and two moments; two files are kept while a third is written.
        checkpoint = 12 * speed.parameters + speed.decorrelation
        needed = 3 * checkpoint + 12 * speed.parameters + 100 * 2**20
        if needed > self.machine.disk:
            raise PlanError(
                f'the disk of the work directory has {self.machine.disk / 2**30:.2f} '
                f'GiB free, and checkpoints and exports need {needed / 2**30:.2f} GiB '
                f'({checkpoint / 2**20:.0f} MiB each): free some, pass a --work-dir '
                'on another disk, or a smaller --encoder')
        self._note('disk', f'{needed / 2**30:.1f} GiB',
                   f'{self.machine.disk / 2**30:.1f} GiB are free')

    def _config(self, recipe: Recipe, epochs: int, workers: int,
                epoch_seconds: float) -> Config:
        request = self.request
        config = recipe.config(self.survey, self.images)
        # A last iteration of an epoch may leave gradients to the next epoch.
        iters = math.ceil(self.num_images / recipe.batch)
        total = epochs * iters
        updates = total // recipe.accumulate
        self._learning_rate(config, recipe, updates)
        if recipe.method == 'dbp-mae':
            self._decorrelation_rate(config, updates)
        # In epochs, as several GPUs take fewer iterations.
        warmup = epochs / 10 if total >= _MANY_ITERATIONS else 0
        of_iters = dict(by_epoch=True, convert_to_iter_based=True)
        rise = dict(type='LinearLR', start_factor=1e-4, begin=0, end=warmup, **of_iters)
        fall = dict(type='CosineAnnealingLR', begin=warmup, end=epochs, **of_iters)
        config.param_scheduler = [rise, fall] if warmup else [fall]
        config.train_cfg = dict(by_epoch=True, max_epochs=epochs)
        config.train_dataloader.update(
            num_workers=workers, persistent_workers=workers > 0)
        if 'teacher' in config.model and total < _SHORT_TEACHER:
            config.model.teacher.momentum = 0.996
            self._note(
                'teacher', 'momentum 0.996', 'it follows in a few thousand steps')
        hooks = config.default_hooks
        hooks.checkpoint.interval = min(
            epochs, max(1, round(_CHECKPOINT_SECONDS / epoch_seconds)))
        hooks.logger.interval = max(1, min(50, total // 40))
        if 'reconstruction' in hooks:
            hooks.reconstruction.interval = max(1, epochs // 10)
        config.randomness.seed = request.seed
        merge_options(config, request.options)
        return config

    def _learning_rate(self, config: Config, recipe: Recipe, updates: int) -> None:
        optimizer = config.optim_wrapper.optimizer
        batch = recipe.effective_batch
        paper = optimizer.lr * batch / config.auto_scale_lr.base_batch_size
        lr, reason = paper, 'MAE\'s rate, in proportion to the batch'
        if recipe.init is None and updates < _MANY_UPDATES:
            few = min(1e-3 * math.sqrt(batch / 64), optimizer.lr)
            share = math.log(max(updates, _FEW_UPDATES) / _FEW_UPDATES) / math.log(
                _MANY_UPDATES / _FEW_UPDATES)
            lr = few**(1 - share) * paper**share
            reason = (f'a run of {updates:,} updates wants a higher rate than MAE\'s '
                      f'{paper:.2g}: 0.001 for 64 images was MAE\'s best of four in '
                      'the study of 200 seconds of one core')
        optimizer.lr = self.request.lr or lr
        # It is the rate of this run: tools/train.py leaves it as it is, on several
        # GPUs as well.
        config.auto_scale_lr = None
        self._note('learning rate', f'{optimizer.lr:.2g}', reason, self.request.lr)

    def _decorrelation_rate(self, config: Config, updates: int) -> None:
        """As much decorrelation in the whole run, whatever its length."""
        eta = min(max(_ETA_UPDATES / max(updates, 1), _SLOW_ETA), _FAST_ETA)
        config.custom_hooks[0].eta = eta
        self._note('decorrelation', f'eta {eta:.2g}',
                   f'of {updates:,} updates; {_FAST_ETA:g} was measured in short runs, '
                   f'{_SLOW_ETA:g} is the default')


def check_images(survey: Survey, num_images: int) -> None:
    """Refuse a folder with too few images.

    Raises:
        PlanError: There are fewer than :data:`MIN_IMAGES`.
    """
    if num_images >= MIN_IMAGES:
        return
    found = (f'{survey.folder} holds {num_images} images that can be used, of '
             f'{num_images + len(survey.skipped)} found')
    if survey.skipped:
        name, reason = survey.skipped[0]
        found += f' (skipped first: {name}: {reason})'
    raise PlanError(
        f'{found}: pre-training needs at least {MIN_IMAGES}, and thousands to be worth '
        'it. Give a folder with more, or start a detector or classifier from public '
        'weights')


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f'{seconds:.0f} s'
    if seconds < 5400:
        return f'{seconds / 60:.1f} min'
    return f'{seconds / 3600:.1f} h'

