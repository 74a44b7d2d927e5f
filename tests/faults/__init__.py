"""Faults of models and networks, and the layers that meet them."""
