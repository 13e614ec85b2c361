"""Tests of the named protocols."""
