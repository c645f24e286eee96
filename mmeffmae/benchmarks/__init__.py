# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
