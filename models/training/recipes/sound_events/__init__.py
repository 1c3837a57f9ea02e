"""The recipe of ``sound-events``."""
