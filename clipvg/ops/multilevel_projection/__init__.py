"""Visual projection over several levels."""
