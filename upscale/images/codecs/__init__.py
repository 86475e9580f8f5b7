"""Image formats, one module each: reading, writing and what the format can hold."""
