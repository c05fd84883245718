"""Building blocks that every architecture shares: attention, layers, encoders, token reduction."""
