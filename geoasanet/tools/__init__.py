"""One module per command: the work itself, as typed functions on paths."""
