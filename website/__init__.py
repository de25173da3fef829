"""The documentation as a site, which needs no other host."""
