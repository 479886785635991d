"""Extensions of the published method: variants of its result, made after it."""
