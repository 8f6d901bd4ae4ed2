"""The terminal screen: a process of its own that shows what the daemon says and sends what the operator asks."""
