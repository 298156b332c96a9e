"""Thin typed wrappers of system calls; imports nothing of the project but errors and ``base``."""
