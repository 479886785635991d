"""`clipvg labels`: commands for label files, one module each."""
