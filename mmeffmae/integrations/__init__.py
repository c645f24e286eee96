# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What subclasses mmdet or mmseg; never imported by the package itself."""
