"""Fold one event into the state. Total: whatever stands in the log, every node does the same with it."""
