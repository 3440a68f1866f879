"""Ray's own processes of one node, as the only thing that a container (or one process of an embedded fleet) runs.

``python -m roadstead_worker.ray head|node``. Here is the one place that knows which flags and variables Ray needs to
be what the product relies on: tokens demanded, a store that survives the head, raylets that outlive an absence of it,
replicas that listen on their own ports. Nothing here imports Ray; ``ray start`` is a child.
"""
