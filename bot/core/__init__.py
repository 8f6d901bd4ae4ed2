"""The pure heart: machines, messages and arithmetic. No clock, no random number, no network, no disk."""
