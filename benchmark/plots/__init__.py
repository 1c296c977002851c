"""Drawings of a run, one module a subject; ``unfooled.figures`` lists them. Only what is here imports matplotlib."""
