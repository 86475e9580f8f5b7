"""Metadata of images: EXIF, XMP, ICC profiles, IPTC and CICP."""
