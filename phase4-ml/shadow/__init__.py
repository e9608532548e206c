"""Staging in shadow: its scores of the payments that Production answers."""
