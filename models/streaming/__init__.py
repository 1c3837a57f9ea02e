"""Checkpoints that listen and watch without end: a state of fixed size a session, stepped together with others."""
