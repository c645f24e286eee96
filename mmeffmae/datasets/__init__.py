# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .labelled import LabelledImages  # noqa: F401
from .samplers import *  # noqa: F403
from .transforms import *  # noqa: F403
from .unlabelled import UnlabelledImages  # noqa: F401
