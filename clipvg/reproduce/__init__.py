"""The paper's tables from the data and checkpoints at hand, ours beside what others report."""
