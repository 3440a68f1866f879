"""A real two-node Kubernetes in process trees of its own, which leaves nothing behind on the machine that lends it.

Three "machines", `control-plane`, `node-a` and `node-b`, are process trees with namespaces and cgroups of their own;
the host gets no interface, no rule, no mount and no setting. All that must outlive a process is below one home.
"""
