"""Beyond the published method: variants of its result, made after it."""
