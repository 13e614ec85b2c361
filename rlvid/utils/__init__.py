"""Small helpers without a room of their own: files, hashing, time limits, text, logging, old names."""
