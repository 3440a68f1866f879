"""The cell all tests here share."""

from tests.fixtures.ray_cell import ray_cell

__all__ = ["ray_cell"]
