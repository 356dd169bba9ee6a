"""Numerics: finiteness, the streaming mean, the server's step, the next model's bytes."""
