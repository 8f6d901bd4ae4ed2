"""Poloniex, spot: its records (`wire`), how to read and write them (`codec`), its REST calls (`client`)."""
