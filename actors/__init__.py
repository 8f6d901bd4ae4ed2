"""Who does it, when, and what happens when it fails: trio tasks around the machines of `bot`."""
