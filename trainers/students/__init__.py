"""Students that train less than all their weights."""
