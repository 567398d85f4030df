"""SSH to machines: probes, commands, the agent; and the script that makes an instance a machine.

Insists on each machine's own host key. Knows nothing of providers, phases or databases.
"""
