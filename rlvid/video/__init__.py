"""Decode, resize, cache and alter the videos and images that the policy sees."""
