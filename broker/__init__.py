"""The event log and the signals between nodes. Knows bytes and partitions, no chat."""
