"""Where bytes are stored: complete or not at all, in a folder or at a URL. Fingerprints of them."""
