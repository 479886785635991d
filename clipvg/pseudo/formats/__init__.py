"""Files that observations are read from."""
