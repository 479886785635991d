"""`clipvg labels`: commands for files of labels, a module each."""
