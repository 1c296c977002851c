"""Data: scenes drawn from a seed, and images from outside."""
