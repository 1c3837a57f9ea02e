"""The networks, and everything that turns media into tensors."""

import os

# NumPy's OpenBLAS would start a team of threads for the smallest product, whichever thread asks, and where the cores
# have something else to do its members wait for one another: a minute of sound in a stream met its limit of 20 s
# instead of taking 0.6. It reads this once, when NumPy is first imported. Networks run on torch's own threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
