"""Google Compute Engine: CPU VMs, spot by default."""
