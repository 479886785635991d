"""Report pages of runs and labels, their figures, and boxes drawn on images."""
