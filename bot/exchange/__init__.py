"""The way to Poloniex, and a simulated one."""
