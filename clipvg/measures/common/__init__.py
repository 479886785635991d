"""What several measures share; no file here defines a measure."""
