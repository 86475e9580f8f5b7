"""Data sets: what prepares them, and what cuts training samples from them.

No torch is imported here: the processes that prepare pictures need none.
"""
