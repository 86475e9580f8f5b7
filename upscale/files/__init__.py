"""File system access shared by all rooms: atomic writes, locks, hashes, printable paths."""
