"""Label maps: finding, reading, encoding, degrading, and the built-in phantoms."""
