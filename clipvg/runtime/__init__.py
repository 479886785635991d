"""How processes run and what they leave: files, locks, groups of processes, their threads."""
