"""The verbs: each module is one thing a user does, read from top to bottom."""
