"""Training: augmentation, losses, optimisers, and the loop that brings them together."""
