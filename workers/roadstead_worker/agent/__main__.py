"""``python -m roadstead_worker.agent node|head``: one program, two roles, so that one image carries both.

The roles are imported when asked for: a head agent needs nothing of the weight store, a node agent nothing of Ray.
"""

from __future__ import annotations

import sys

from roadstead_worker.agent.logs import configure_logs


def main() -> int:
    """Run the role named by the only argument; 2 means that it was not understood."""
    arguments = sys.argv[1:]
    if arguments in (["node"], ["head"]):
        configure_logs(role=f"{arguments[0]}-agent")
    match arguments:
        case ["node"]:
            from roadstead_worker.agent.node import main as node_main  # noqa: PLC0415 - see the module's docstring

            return node_main()
        case ["head"]:
            from roadstead_worker.agent.head import main as head_main  # noqa: PLC0415 - see the module's docstring

            return head_main()
        case _:
            sys.stderr.write("usage: python -m roadstead_worker.agent node|head\n")
            return 2


if __name__ == "__main__":
    sys.exit(main())
