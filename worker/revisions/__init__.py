"""Revisions of agents' directories: found with git, and laid out on this worker's disk."""
