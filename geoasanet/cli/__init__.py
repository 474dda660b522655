"""The command line: builds a configuration, calls one tool, prints its result."""
