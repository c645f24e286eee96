# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Pre-training on a folder of images: survey, plan, run, report."""
