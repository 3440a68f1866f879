"""Agents: the doors through which the operator reaches a machine (``node``) and a Ray cluster (``head``).

``python -m roadstead_worker.agent node|head``. Both roles share their door (``door``), the fence against old leaders
(``epoch``) and the long poll (``longpoll``).
"""
