"""Checkpoints that come with the package, each with a page that says what it is."""
