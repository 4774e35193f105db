"""What a network computes inside: forward hooks that leave no trace."""
