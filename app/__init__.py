"""The service: HTTP in, JSON out."""

import models  # noqa: F401  before NumPy, whose threads it bounds
