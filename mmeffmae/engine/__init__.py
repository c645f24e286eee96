# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .hooks import *  # noqa: F403
from .optimizers import *  # noqa: F403
from .sharding import wrap_attention_and_ffn  # noqa: F401
from .storage import AtomicLocalBackend  # noqa: F401
