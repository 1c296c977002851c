"""What fools: makers of twins."""
