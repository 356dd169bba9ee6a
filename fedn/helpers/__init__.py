"""Tensors to a framework's model and back, one module per framework."""
