"""Errors that are put into training data or into the verdicts of rewards, to study their effect."""
