"""Degradations of good photographs into bad ones: drawn, described, replayed."""
