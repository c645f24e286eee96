# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .backbones import *  # noqa: F403
from .band_preprocessor import BandDataPreprocessor  # noqa: F401
from .data_preprocessor import SelfSupDataPreprocessor  # noqa: F401
from .heads import *  # noqa: F403
from .layers import ConvFFN, ConvStem, PatchifyStem  # noqa: F401
from .losses import *  # noqa: F403
from .necks import *  # noqa: F403
from .selfsup import *  # noqa: F403
