"""Metadata blocks: EXIF, XMP, ICC, IPTC and colour spaces named by numbers."""
