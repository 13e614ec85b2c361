"""Benchmarks of speed and memory, beside other implementations, and the estimate of a run's memory."""
