"""A trading bot for the Poloniex exchange: what is true, and what should be done.

The actors that do it, and when, live in the package `actors` beside this one.
"""

__version__ = "0.1.0"
