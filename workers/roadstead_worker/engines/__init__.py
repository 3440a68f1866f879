"""Inference engines, each as the command that starts it and the words it speaks.

A new engine is one module here that fulfils ``base.Engine``, and one line in ``catalogue.engine_named``. Engines
never run inside the replica's process: these modules only describe a child.
"""
