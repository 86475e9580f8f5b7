"""The app: a server on this machine that upscales what is dropped on its page in a browser.

It runs the same jobs as the command line. Nothing here prints, and the page loads nothing from
other servers.
"""
