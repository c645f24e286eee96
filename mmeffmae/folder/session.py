# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""A folder from survey to report; a second call goes on where the first stopped."""
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config

from mmeffmae.checkpoint import CheckpointError
from mmeffmae.checkpoint.export import export_backbone
from mmeffmae.checkpoint.interop import write_for
from mmeffmae.checkpoint.layouts import LAYOUTS
from mmeffmae.datasets.device_images import of_files
from mmeffmae.engine.launch import set_resume
from mmeffmae.engine.training import training_runner
from mmeffmae.evaluation.record import write_json

from .machine import this_machine
from .plan import Plan, make_plan
from .recipe import PlanError
from .report import IMAGES, folder_report
from .request import Request
from .survey import Survey, survey_folder


@dataclass
class Session:
    """One folder, one work directory.

    Attributes:
        folder: Of the images.
        work_dir: Where everything goes.
        request: What is asked for.
        channels: See :func:`mmeffmae.folder.survey.survey_folder`.
        min_side: The same.
        drop_repeats: Leave out near-duplicates of other images.
        memory_gib: Limit on the memory of the device.
        say: Prints a line.
    """
    folder: Path
    work_dir: Path
    request: Request = Request()
    channels: Optional[int] = None
    min_side: int = 32
    drop_repeats: bool = False
    memory_gib: Optional[float] = None
    say: Callable[[str], None] = print
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        """The resolved config, for ``tools/train.py``."""
        return self.work_dir / 'config.py'

    @property
    def record(self) -> Path:
        """What was found, asked for and chosen."""
        return self.work_dir / 'plan.json'

    @property
    def images(self) -> Path:
        """Names of the images that are trained on."""
        return self.work_dir / IMAGES

    def run(self, dry_run: bool = False) -> None:
        """Plan, unless there is a plan, then train, export and report.

        Args:
            dry_run: Print the plan and write nothing.

        Raises:
            PlanError: Something does not fit; nothing has run then.
        """
        if dry_run:
            with tempfile.TemporaryDirectory(prefix='plan_') as folder:
                self._plan(Path(folder))
            return
        if self.record.is_file():
            self._check_record()
            self.say(f'going on with the plan in {self.work_dir}')
        else:
            self.work_dir.mkdir(parents=True, exist_ok=True)
            survey, plan = self._plan(self.work_dir)
            plan.config.work_dir = str(self.work_dir)
            plan.config.dump(self.config)
            self._write_record(survey, plan)
        self._train()
        self._export()
        self._report()
        for name, value in self._read()['seconds'].items():
            self.say(f'{name:<10} {value:7.1f} s')

    def _plan(self, folder: Path) -> tuple[Survey, Plan]:
        start = time.perf_counter()
        with self._timed('survey', self.seconds):
            survey = survey_folder(
                self.folder, self.channels, self.min_side, _progress)
            names = survey.without_repeats() if self.drop_repeats else survey.names
        self.say(f'{self.folder}:')
        for name, value in survey.rows():
            self.say(f'  {name}: {value}')
        images = folder / IMAGES
        _write_lines(images, names)
        _write_lines(folder / 'skipped.txt', (
            f'{name}\t{reason}' for name, reason in survey.skipped))
        _write_lines(folder / 'near_duplicates.txt', (
            '\t'.join(survey.names[i] for i in group) for group in survey.duplicates))
        for name, reason in survey.skipped[:10]:
            self.say(f'  skipped: {name}: {reason}')
        if len(survey.skipped) > 10:
            self.say(f'  and {len(survey.skipped) - 10} more, in skipped.txt')
        machine = this_machine(self.work_dir, self.memory_gib)
        with self._timed('plan', self.seconds):
            plan = make_plan(self.request, survey, images, len(names), machine,
                             time.perf_counter() - start)
        self.say(f'plan:\n{plan.text()}')
        return survey, plan

    def _write_record(self, survey: Survey, plan: Plan) -> None:
        write_json(dict(
            folder=str(self.folder.absolute()),
            name=self.folder.absolute().name,
            asked=self._asked(),
            method=plan.recipe.method,
            encoder=plan.recipe.encoder,
            # Options may have changed it after the plan was made.
            epochs=plan.config.train_cfg.get('max_epochs', plan.epochs),
            survey=survey.rows(),
            choices=[asdict(choice) for choice in plan.choices],
            warnings=plan.warnings,
            seconds=self.seconds), self.record)

    def _asked(self) -> dict[str, Any]:
        asked = dict(asdict(self.request), channels=self.channels,
                     min_side=self.min_side, drop_repeats=self.drop_repeats)
        return json.loads(json.dumps(asked))

    def _read(self) -> dict[str, Any]:
        return json.loads(self.record.read_text(encoding='utf-8'))

    def _check_record(self) -> None:
        record = self._read()
        before, now = record['asked'], self._asked()
        before['folder'], now['folder'] = record['folder'], str(self.folder.absolute())
        changed = [f'{key} was {before.get(key)!r} and is {now[key]!r}'
                   for key in now if before.get(key) != now[key]]
        if changed:
            raise PlanError(
                f'{self.work_dir} holds a run with other settings '
                f'({"; ".join(changed)}): give the same ones to go on with it, or '
                'another --work-dir')

    @contextmanager
    def _timed(
        self, name: str, seconds: Optional[dict[str, float]] = None
    ) -> Iterator[None]:
        """Add up how long each part takes, over all calls.

        Args:
            name: Of the part.
            seconds: Where to add, before there is a record.
        """
        start = time.perf_counter()

        def add() -> None:
            spent = time.perf_counter() - start
            record = self._read() if seconds is None else dict(seconds=seconds)
            of = record['seconds']
            of[name] = round(of.get(name, 0.) + spent, 1)
            if seconds is None:
                write_json(record, self.record)

        try:
            yield
        except BaseException:
            with suppress(OSError):  # of the two errors the first says more
                add()
            raise
        add()

    def _train(self) -> None:
        if self._final().is_file():
            return
        cfg = Config.fromfile(self.config)
        cfg.launcher = 'none'
        # The folder may be called by another name now, or from another place.
        cfg.work_dir = str(self.work_dir)
        of_files(cfg.train_dataloader.dataset)['ann_file'] = str(
            self.images.absolute())
        notes = set_resume(cfg, 'auto')
        with self._timed('training'):
            training_runner(cfg, notes=notes).train()

    def _final(self) -> Path:
        return self.work_dir / f'epoch_{self._read()["epochs"]}.pth'

    def _export(self) -> None:
        backbone = self.work_dir / 'backbone.pth'
        with self._timed('export'):
            if not backbone.is_file():
                try:
                    result = export_backbone(self._final(), backbone)
                except CheckpointError as error:
                    self.say(f'not exported: {error}')
                    return
                self.say(result.summary())
            # Every time: a call may have stopped here, or a package been missing.
            for layout in LAYOUTS:
                try:
                    self.say(f'written to {write_for(layout, backbone)}')
                except CheckpointError as error:
                    self.say(f'not written for {layout}: {error}')

    def _report(self) -> None:
        out = self.work_dir / 'report.html'
        device = this_machine(self.work_dir).device
        with self._timed('report'):
            page = folder_report(self.work_dir, self._read(), device)
            out.write_text(page, encoding='utf-8')
        self.say(f'report: {out}')


def _write_lines(path: Path, lines: Any) -> None:
    path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and (done % 50 == 0 or done == total):
        end = '\n' if done == total else ''
        print(f'\rread {done:,} of {total:,} images', end=end, file=sys.stderr)
