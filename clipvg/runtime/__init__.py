"""Processes and their resources: files, locks, safe readers, GPUs, process groups and threads."""
