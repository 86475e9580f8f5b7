"""Codecs: one module per image format, which reads, writes and registers it (see `registry`)."""
