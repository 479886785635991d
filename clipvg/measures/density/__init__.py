"""Feature density and distance from a reference."""
