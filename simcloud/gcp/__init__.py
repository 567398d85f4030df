"""Google Compute Engine in a box: the v1 REST API and what stands around it.

Projects, zones, machine types, images, instances with their operations, Spot preemption, the
metadata server, OAuth tokens and the price list, as Google's own clients expect them on the wire.
Instances are machines of `simcloud.machines`: real processes with a real sshd.
"""
