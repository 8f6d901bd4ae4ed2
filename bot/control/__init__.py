"""How a terminal and the daemon talk: records of the protocol, and a plain client for the command line."""
