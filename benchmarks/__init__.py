"""What the system costs: rounds per second, bytes per second and memory, beside bare floors.

Run with ``make bench``. `__main__` lays out the runs and prints; `systems` starts the processes; `floor`
and `noop_clients` are what runs in them; `sampling` watches memory; `report` counts and words.
"""
