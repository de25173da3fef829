"""The `backline` command: it composes the other packages and holds no logic of its own."""
