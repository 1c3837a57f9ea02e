"""The collector of cycles, told what will stay.

A full pass looks at everything alive: some 230,000 objects that torch, the libraries and the checkpoints brought, for
which no other Python runs for a tenth of a second.
"""

import gc


def settle() -> None:
    """Take everything alive now out of later passes; for a process that has loaded what it serves."""
    gc.collect()
    gc.freeze()
    # A full pass comes when what is new is a quarter of what the last one left: of that, there is little now.
    gc.collect()


def collect() -> None:
    """Find the garbage among what was taken out as well, such as an unloaded network."""
    settled = gc.get_freeze_count() > 0
    gc.unfreeze()
    if settled:
        settle()
    else:
        gc.collect()
