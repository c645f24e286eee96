# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .hooks import *  # noqa: F403
from .optimizers import *  # noqa: F403
from .storage import AtomicLocalBackend  # noqa: F401
