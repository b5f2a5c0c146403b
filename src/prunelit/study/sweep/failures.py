"""What the runs of this program raised."""

failures: list[Exception] = []
