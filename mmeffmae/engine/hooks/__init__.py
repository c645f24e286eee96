# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .checkpoint import SafeCheckpointHook
from .compile import CompileHook
from .decoder_warmup import DecoderWarmupHook
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
from .progressive_resolution import ProgressiveResolutionHook
from .rank_watch import RankWatchHook
from .reconstruction import ReconstructionHook
from .runtime_info import LazyRuntimeInfoHook
from .stable_schedule import StableScheduleHook
from .teacher import TeacherHook
from .test_time_augmentation import TTAHook

__all__ = [
    'CompileHook',
    'DecoderWarmupHook',
    'DecorrelationHook',
    'EnvironmentHook',
    'KNNMonitorHook',
    'KeyedRandomnessHook',
    'LazyRuntimeInfoHook',
    'LoadReportHook',
    'MicroBatchHook',
    'NonFiniteGuardHook',
    'PredictionsHook',
    'PreemptionHook',
    'ProgressHook',
    'ProgressiveResolutionHook',
    'RankWatchHook',
    'ReconstructionHook',
    'SafeCheckpointHook',
    'StableScheduleHook',
    'TeacherHook',
    'TTAHook',
]
