"""Breaks a private Backline on purpose, and checks what its clients saw against what it promises.

`stand` starts real processes, `faults` breaks them by a seed, `clients` ask meanwhile, `history` is what they
saw, `check` holds it against the promises, `report` says it. Nothing here is imported by what it breaks.
"""
