"""Errors that a person can put right. The command line prints the message alone, without a stack trace."""


class UserError(Exception):
    """What is wrong, where, and the next step, in one line."""


class SerializationError(ValueError):
    """A record that its Avro schema doesn't take; the message names the field."""
