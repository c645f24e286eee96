# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from .device_images import DeviceImages, whole_batch  # noqa: F401
from .labelled import LabelledImages  # noqa: F401
from .samplers import *  # noqa: F403
from .tar_backend import TarBackend  # noqa: F401
from .transforms import *  # noqa: F403
from .unlabelled import UnlabelledImages  # noqa: F401
