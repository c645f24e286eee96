# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .samplers import *  # noqa: F401,F403
from .transforms import *  # noqa: F401,F403
