# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .checkpoint import SafeCheckpointHook
from .decorrelation import DecorrelationHook
from .environment import EnvironmentHook
from .keyed_randomness import KeyedRandomnessHook
from .knn_monitor import KNNMonitorHook
from .load_report import LoadReportHook
from .micro_batches import MicroBatchHook
from .nonfinite import NonFiniteGuardHook
from .predictions import PredictionsHook
from .preemption import PreemptionHook
from .progress import ProgressHook
from .rank_watch import RankWatchHook
from .reconstruction import ReconstructionHook
from .stable_schedule import StableScheduleHook
from .teacher import TeacherHook
from .test_time_augmentation import TTAHook

__all__ = [
    'DecorrelationHook',
    'EnvironmentHook',
    'KNNMonitorHook',
    'KeyedRandomnessHook',
    'LoadReportHook',
    'MicroBatchHook',
    'NonFiniteGuardHook',
    'PredictionsHook',
    'PreemptionHook',
    'ProgressHook',
    'RankWatchHook',
    'ReconstructionHook',
    'SafeCheckpointHook',
    'StableScheduleHook',
    'TeacherHook',
    'TTAHook',
]
