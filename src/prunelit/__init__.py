"""prunelit: prune image classifiers and measure what pruning does."""
