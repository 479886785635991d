"""File formats that observations are read from."""
