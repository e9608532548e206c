"""Replay: files of real transactions through the same topics as the simulated ones."""
