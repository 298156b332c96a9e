"""The build cache: results of steps under their keys, how long they stay, what else builds keep."""
