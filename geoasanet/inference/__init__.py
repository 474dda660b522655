"""From windows to blended rows: running the network and putting its answers together."""
