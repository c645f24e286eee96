# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""k-nearest-neighbour accuracy of the encoder during pre-training."""
import time
from typing import Optional

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from mmeffmae.compat import unwrap
from mmeffmae.evaluation.features import extract_features, labelled_dataloader
from mmeffmae.evaluation.knn import knn_accuracy
from mmeffmae.evaluation.rng import isolated_rng
from mmeffmae.registry import HOOKS


@HOOKS.register_module()
class KNNMonitorHook(Hook):
    """Log ``monitor/knn_top1`` (percent) before, during and after training.

    It shows early whether an encoder learns; it is no measure of quality
    between methods, because k-nearest neighbours misrank masked models. Rank
    0 computes while the others wait. No random stream of training is
    touched: a run with the hook trains exactly as one without it.

    The value goes to the log, to the visualizer's backends at the number of
    finished iterations, and to the message hub.

    Args:
        bank: Config of the labelled dataset that votes. Its pipeline must be
            deterministic and end with images of one size.
        query: Config of the labelled dataset that is classified.
        interval: Epochs between two values; the last epoch always has one.
        k: Number of neighbours.
        temperature: Divides the similarities, see
            :func:`mmeffmae.evaluation.knn_accuracy`.
        batch_size: Images encoded at a time.
        num_workers: Worker processes of the two loaders.
        before_train: Log a value before the first iteration as well.

    Raises:
        ValueError: ``interval`` is not positive.
    """
    priority = 'NORMAL'

    def __init__(self,
                 bank: dict,
                 query: dict,
                 interval: int = 1,
                 k: int = 20,
                 temperature: float = 0.07,
                 batch_size: int = 256,
                 num_workers: int = 0,
                 before_train: bool = True) -> None:
        if interval < 1:
            raise ValueError(f'interval={interval} epochs (KNNMonitorHook): '
                             'use 1 or more')
        self.bank = bank
        self.query = query
        self.interval = interval
        self.k = k
        self.temperature = temperature
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.at_start = before_train
        self._loaders: Optional[tuple[DataLoader, DataLoader]] = None

    def before_train(self, runner: Runner) -> None:
        """Log the value of the encoder that training starts from."""
        if self.at_start and runner.iter == 0:
            self._monitor(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Log the value every ``interval`` epochs and after the last one."""
        if self.every_n_epochs(
                runner, self.interval) or self.is_last_train_epoch(runner):
            self._monitor(runner)

    def _monitor(self, runner: Runner) -> None:
        if is_main_process():
            with isolated_rng(seed=0):
                self._log(runner)
        barrier()

    def _log(self, runner: Runner) -> None:
        start = time.perf_counter()
        bank, query = (self._features(runner, loader)
                       for loader in self._dataloaders())
        value = knn_accuracy(*bank, *query, self.k, self.temperature)
        runner.logger.info(
            f'monitor/knn_top1: {value:.2f} % at iteration {runner.iter} '
            f'({self.k} neighbours, bank {len(bank[1])}, query '
            f'{len(query[1])} images, {time.perf_counter() - start:.1f} s)')
        runner.message_hub.update_scalar('monitor/knn_top1', value)
        runner.visualizer.add_scalar(
            'monitor/knn_top1', value, step=runner.iter)

    def _dataloaders(self) -> tuple[DataLoader, DataLoader]:
        if self._loaders is None:
            self._loaders = (self._build(self.bank), self._build(self.query))
        return self._loaders

    def _build(self, config: dict) -> DataLoader:
        return labelled_dataloader(
            DATASETS.build(config), self.batch_size, self.num_workers)

    @staticmethod
    def _features(runner: Runner,
                  loader: DataLoader) -> tuple[Tensor, Tensor]:
        model = unwrap(runner.model)
        device = next(model.backbone.parameters()).device
        features, labels = extract_features(model.backbone, loader, device,
                                            model.data_preprocessor)
        return features.to(device), labels.to(device)
