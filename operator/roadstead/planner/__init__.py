"""Decides, purely: a snapshot and a time go in, a plan with its reasons comes out. No I/O, no clock, no chance."""
