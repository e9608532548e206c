"""Training runs in a container of their own: a server there starts them one at a time, and a client follows them."""
