"""Deterministic simulation: the whole bot and the whole exchange in one process, in virtual time, from one seed."""
