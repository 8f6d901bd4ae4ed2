"""Live orders: what is sent to the exchange, and what is concluded from what it says."""
