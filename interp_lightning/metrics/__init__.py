"""How good is it? Pure functions; each docstring gives the protocol and its source."""
