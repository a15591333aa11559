"""Judge a command on the state as it is now: the event to append, an answer that needs none, or a refusal."""
