"""A replica: one running copy in a slot, a Ray Serve actor that owns one engine child and stands before it as a proxy.

``application`` builds the Serve application, ``slot`` is the deployment class, ``proxy`` the door, ``engine_process``
and ``engine_keeper`` the child and its restarts, ``memory_claim`` the device group and the lease it runs on.
"""
