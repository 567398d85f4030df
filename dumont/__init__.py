"""The product library: everything that workflows, the worker, the API and the CLI stand on."""
