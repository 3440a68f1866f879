"""Kopf functions of a few lines: each parses, pokes the one loop and returns None."""
