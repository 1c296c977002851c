"""Similarities of two batches of maps: 1 for identical maps, larger is more alike."""

from unfooled.metrics.base import Prepared, State, prepared

__all__ = ["Prepared", "State", "prepared"]
