"""Model files: what a format's header says, where files come from, and the store that keeps them on a node.

Imports nothing else of this project, so that every process may read a header without pulling in Ray or Kopf.
"""
