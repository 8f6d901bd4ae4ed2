"""A simulated Poloniex on loopback: recorded, generated or clients' own markets behind the exchange's protocol."""
