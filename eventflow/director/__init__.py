"""The director: a loop of trio that turns events into next actions."""
