"""Strategies on level-2 recordings: the whole book, our place in its queues, and the time that news and orders take."""
