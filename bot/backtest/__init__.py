"""Runs over past markets: the live bot's own machines in a plain loop."""
