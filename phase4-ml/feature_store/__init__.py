"""The online feature store in Redis: its layout, what writes it, and what checks it. `layout.py` is where to begin."""
