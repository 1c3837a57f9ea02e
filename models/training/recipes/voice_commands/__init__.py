"""The recipe of ``voice-commands``."""
