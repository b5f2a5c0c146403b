"""Pruned networks as files: folders that prunelit loads, programs of other runtimes, and their cards."""
