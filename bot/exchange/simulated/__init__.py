"""A simulated Poloniex on loopback: a recorded or generated market behind the public spot protocol."""
