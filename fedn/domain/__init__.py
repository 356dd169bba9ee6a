"""The words and rules of the system. Standard library only; imported by every room, imports none."""
